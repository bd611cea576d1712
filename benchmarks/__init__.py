"""Measurements against other tools and against floors, on the machine they run on: `python3 dev.py bench`. No product code lives here."""
