"""Training: a sealed Dataset and a base model in, a Checkpoint out.

Read `finetune.py` first (the step), then `loop.py` (the whole algorithm on one page), then
`batches.py` (what a step holds), `executor.py` (how a batch becomes a loss) and `guards.py`
(what stops a run that would be worth nothing). `under_way.py` ends a training that is told to go,
`checkpoint.py`, `keeper.py` and `resume.py` let it go on with the same bytes.
"""
