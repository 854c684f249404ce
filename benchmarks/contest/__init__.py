"""A contest in training speed: one piece of work, every contestant in processes of its own.

In: a file of rows and a model's folder. Out: one record a run, and a table. Read `work` first (what
is learnt, in which order, how many tokens that is), then `nexa_runs` and `peer_runs` (how a
contestant is run and timed), `limit` (what the machine could do), `figures` and `table`.
"""
