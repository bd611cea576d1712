"""What can go wrong in a benchmark. One kind is enough: it is told in a line, and what it concerns is left out."""


class BenchError(Exception):
    pass
