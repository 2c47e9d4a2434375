"""Rows and sentences that the terminal and the pages share."""
