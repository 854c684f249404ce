"""The loop closed: what a model is weak at, rows against it, a new training, and a verdict.

Read `loop.py` first, then `round.py`. `candidates.py` has rows come from a pool or a teacher, and
is what `feedback.py` (one pass without a training) shares with a round. `book.py` keeps which
rounds there were, `spending.py` what they cost, `preview.py` tells both before anything is spent.
"""
