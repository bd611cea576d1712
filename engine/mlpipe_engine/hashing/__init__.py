"""Content digests of files and trees, and the cache that avoids computing them twice.

Reads files, never writes any but through `copy_while_hashing`. Used by snapshots, the store and the resolver.
"""
