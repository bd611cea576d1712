"""Data outside of the store: addresses, datastores, and the cache of what lies elsewhere."""
