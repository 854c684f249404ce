"""L1, data: files of rows in; a sealed Dataset out, of which every row knows where it came from.

In: JSON lines in one of the shapes of `schemas/`, read by a loader of `loaders/`. Out: Parquet a
split, `lineage.jsonl` (a line a kept row), `rejects.jsonl` (a line a row left out, and why). No
row is lost in silence: rows read = rows kept + rows dropped by each reason.

Read `prepare.py` first, then `rows.py`. `detect.py` says what a file holds, `mask.py` which of
its text is trained, `registry.py` keeps the list of all datasets.
"""
