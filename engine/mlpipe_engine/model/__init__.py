"""Frozen values that every other package speaks: digests, trees, specs, manifests, plans, states, records, events.

No I/O, no clock, no third-party library. Imported by everything; imports `errors` only.
"""
