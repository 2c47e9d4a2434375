"""The population of networks, its update rules, and the one training loop."""
