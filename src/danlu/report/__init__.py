"""Figures, tables, pages, progress."""
