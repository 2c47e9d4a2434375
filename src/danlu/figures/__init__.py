"""Plotly figures as plain dictionaries, for reports, notebooks and the page alike."""
