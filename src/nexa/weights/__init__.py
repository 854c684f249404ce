"""Weights: in comes a checkpoint and its base; out goes a model folder with `parity.json`.

The folder is what plain transformers loads, the file is the proof that it is the model that was
trained. Read `merge_adapter.py` first (the step), then `merging.py` (the arithmetic, tensor by
tensor), `folder.py` (what else a model folder needs) and `parity.py` (the proof). What Nexa did not
train comes in by `adopt.py`, and a whole model goes out by `take.py`.
"""
