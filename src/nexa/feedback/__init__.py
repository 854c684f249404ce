"""L4, feedback: where a model is weak, candidates for those places, and whether a round is kept.

In: a suite and its scores, a pool of unused rows or a teacher. Out: sealed weaknesses, candidate
rows and decisions. Candidates reach a dataset only through `data.merge` and its filters.

Read `weakness_analysis.py` first, then `feedback_generators/` and `feedback_loop.py`.
"""
