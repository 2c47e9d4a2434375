"""What is measured while training: probes, when they are taken, and what they found."""
