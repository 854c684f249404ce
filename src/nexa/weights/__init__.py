"""Weights: in comes a checkpoint, a model or several; out goes a model with `parity.json`.

A model is a folder that plain transformers loads, or a GGUF file; `parity.json` is the proof that
it is the model it was made from. Read `merge_adapter.py` first (the step), then `merging.py` (the
arithmetic, tensor by tensor), `folder.py` (what else a model folder needs) and `parity.py` (the
proof; `logits.py` computes what it compares). `merge_models` merges whole models, `convert.py`
writes one in another form (`copy_proof.py` and `gguf` prove it), `proof.py` tells whether two are
one. What Nexa did not train comes in by `adopt.py`, and a whole model goes out by `take.py`.
"""
