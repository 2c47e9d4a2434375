"""Recipes and networks in the form of others."""
