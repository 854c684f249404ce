"""The digest of what a dataset holds, wherever its rows stood: versions of a name differ in it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from nexa.core.identity import canonical_json

BATCH_ROWS = 4096
PLACE = "origin"  # the one column that tells where a row stood


def content_sha256(splits: Mapping[str, bytes | Path], facts: Mapping[str, Any]) -> str:
    """sha256 over the rows of a dataset's Parquet files, in their order, and some facts of it.

    `splits` are the files by the splits' names. Rows count with all their columns but `origin`:
    a file that was renamed or got a blank line makes no other dataset.
    """
    sha256 = hashlib.sha256(canonical_json(dict(facts)))
    for name, content in sorted(splits.items()):
        sha256.update(canonical_json(name))
        source = pa.py_buffer(content) if isinstance(content, bytes) else content
        file = pq.ParquetFile(source)
        columns = [column for column in file.schema_arrow.names if column != PLACE]
        for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=columns):
            sha256.update(batch.serialize())
    return sha256.hexdigest()
