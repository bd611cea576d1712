"""How steps run: laid out by `staging`, started as processes (containers later), on interpreters found by `interpreters`.

An executor knows nothing of pipelines, reuse or the scheduler; an exit it did not see is Lost, never success.
"""
