"""What packed batches say of their size is read without unpacking them."""

from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
import pytest

from nexa.data.loaders.arrow_sizes import _of_batch, _of_message, declared_bytes

TABLE = pa.table(
    {
        "text": ["x" * 1000] * 500,
        "number": list(range(500)),
        "kind": pa.array(["a", "b"] * 250).dictionary_encode(),
    }
)


def stream(compression: str | None) -> bytes:
    sink = io.BytesIO()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_stream(sink, TABLE.schema, options=options) as out:
        out.write_table(TABLE, max_chunksize=100)
    return sink.getvalue()


@pytest.mark.parametrize("compression", [None, "zstd", "lz4"])
def test_a_batch_says_how_long_it_is(compression: str | None) -> None:
    declared = declared_bytes(pa.py_buffer(stream(compression)))
    assert abs(declared - TABLE.nbytes) < 3000  # offsets and padding of five batches


def test_a_stream_that_breaks_off_counts_up_to_there() -> None:
    whole = stream("zstd")
    assert declared_bytes(pa.py_buffer(b"")) == 0
    assert 0 < declared_bytes(pa.py_buffer(whole[: len(whole) // 2])) < TABLE.nbytes


class Said:
    """A message whose own words are nonsense."""

    type = "record batch"
    metadata = b"\x04\0\0\0\xff"
    body = b""


def test_a_message_without_sense_counts_as_nothing() -> None:
    said: Any = Said()
    assert _of_message(said) == 0
    assert _of_batch(b"", "schema", b"") == 0
