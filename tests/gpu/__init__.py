"""What only a machine with a GPU can show. Not part of the suite: python -m tests.gpu, or dev.py's Python, on such a machine."""
