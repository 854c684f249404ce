"""L1, data: files of rows in; a sealed Dataset out, of which every row knows where it came from.

In: files, folders, patterns, addresses or Hub datasets of rows in a shape of `schemas/`, read by a
loader of `loaders/`. Out: Parquet a split, `lineage.jsonl` (a line a kept row), `rejects.jsonl` (a
line a row left out, and why). No row is lost in silence: rows read = rows kept + rows dropped.

Read `prepare.py` first, then `rows.py`. `detect.py` says what a file holds, `mask.py` which of
its text is trained, `validate.py` which of its rows have a fault; `merge.py` adds rows to a
dataset, `registry.py` keeps the list of all.
"""
