"""What trains where: checks, grouping, plans, worker processes, clusters."""
