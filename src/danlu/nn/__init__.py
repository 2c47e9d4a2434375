"""Bricks: initial values, layers, losses, penalties, information."""
