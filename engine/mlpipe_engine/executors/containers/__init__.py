"""Steps in containers: `engines` finds and asks a container engine, `executor` runs attempts, `host_image` makes images.

The library `docker` is imported only when an engine is spoken to.
"""
