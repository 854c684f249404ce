"""L3, evaluation: the same frozen prompts to base and tuned, and what the difference proves.

In: a dataset's held-out rows, model files. Out: a sealed suite, answers, scores and a report, each
a file that can be scored or compared again without the step before it.

Read `suite.py` first (which rows are asked), then `generate.py` (answers), `metrics.py` (scores)
and `analyze.py` (the verdict). What can be scored, and how, is the table `tasks/table.py`; the
arithmetic of intervals and verdicts is `nexa.core.scoring`, which publishing verifies with.
"""
