"""Widgets of our own, where the stock ones are too slow or lose text: each draws only the rows that are seen."""
