"""What trains where: grouping recipes, measuring plans, worker processes, clusters."""
