"""What trains where: checks, grouping, measured plans, worker processes, clusters."""
