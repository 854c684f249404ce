"""What all layers share; imports nothing heavy (no torch, transformers, pyarrow, polars, flask).

Read `records.py` first (what is made), then `store.py` (where it is kept), then `identity.py`
(what makes two of them the same).
"""
