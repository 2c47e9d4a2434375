"""Runs, studies and data for readers: tables, terminal, pages."""
