"""A thousand files of every format, whole and mutilated: each is a dataset or a clear error."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nexa.core.errors import NexaError
from nexa.core.store import Store
from nexa.data.detect import detect
from nexa.data.prepare import PrepareSpec, prepare
from nexa.data.sources import sources_of
from nexa.lm.resolve import ModelFiles, resolve

Rows = list[dict[str, Any]]

FILES = 1000


def question_answers(count: int) -> Rows:
    return [
        {"question": f"What is {i} times {i + 7}?", "answer": f"It is {i * (i + 7)} ä"}
        for i in range(count)
    ]


def conversations(count: int) -> Rows:
    return [
        {
            "conversations": [
                {"from": "human", "value": row["question"]},
                {"from": "gpt", "value": row["answer"]},
            ],
            "id": i,
        }
        for i, row in enumerate(question_answers(count))
    ]


def alpacas(count: int) -> Rows:
    return [
        {"instruction": row["question"], "input": "", "output": row["answer"], "history": []}
        for row in question_answers(count)
    ]


def jsonl(rows: Rows) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def json_list(rows: Rows) -> bytes:
    return json.dumps(rows, indent=1).encode()


def json_object(rows: Rows) -> bytes:
    return json.dumps({"version": [1, 2], "data": rows}).encode()


def table(delimiter: str) -> Callable[[Rows], bytes]:
    def write(rows: Rows) -> bytes:
        text = io.StringIO()
        keys = list(rows[0]) if rows else ["question", "answer"]
        writer = csv.writer(text, delimiter=delimiter)
        writer.writerow(keys)
        writer.writerows([row[key] for key in keys] for row in rows)
        return text.getvalue().encode()

    return write


def parquet(rows: Rows) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


def arrow(rows: Rows) -> bytes:
    table = pa.Table.from_pylist(rows)
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, table.schema) as file:
        file.write_table(table)
    return sink.getvalue()


def zstd_jsonl(rows: Rows) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(jsonl(rows))
    return bytes(sink.getvalue())


def prose(rows: Rows) -> bytes:
    return "\n\n".join("# " + " ".join(map(str, row.values())) for row in rows).encode()


WRITERS: dict[str, Callable[[Rows], bytes]] = {
    "jsonl": jsonl,
    "json": json_list,
    "ndjson": jsonl,
    "object.json": json_object,
    "lines.json": jsonl,
    "csv": table(","),
    "semicolon.csv": table(";"),
    "tsv": table("\t"),
    "parquet": parquet,
    "arrow": arrow,
    "jsonl.zst": zstd_jsonl,
    "txt": prose,
    "md": prose,
}
# What stands in files that somebody mistook, cut, joined or edited by hand.
SPLINTERS = (
    b"",
    b"\0",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\xe4",
    b'"',
    b"{",
    b"}]",
    b"[" * 300,
    b"\n",
    b"\r",
    b"\n\n{",
    b",,",
    b"\x1b[31m",
    b"NaN",
    b"1e999",
    b"9" * 5000,
    b"\\ud800",
    b'"messages":',
    b"null",
    b"<|im_end|>",
)
cuts = st.tuples(
    st.integers(0, 10**6),  # where, modulo the length
    st.integers(0, 40),  # bytes that go
    st.one_of(st.sampled_from(SPLINTERS), st.binary(max_size=4)),
)


@pytest.fixture(scope="module")
def model(tiny_llama: Path) -> ModelFiles:
    return resolve(str(tiny_llama))


@given(
    kind=st.sampled_from(sorted(WRITERS)),
    rows=st.sampled_from([question_answers, conversations, alpacas]),
    count=st.integers(0, 6),
    changes=st.lists(cuts, max_size=3),
    packed=st.sampled_from(("", "", "", "whole", "broken")),
)
@settings(
    max_examples=FILES,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_a_file_is_a_dataset_or_a_clear_error(
    kind: str,
    rows: Callable[[int], Rows],
    count: int,
    changes: list[tuple[int, int, bytes]],
    packed: str,
    model: ModelFiles,
    tmp_path: Path,
) -> None:
    content = WRITERS[kind](rows(count))
    if packed == "broken":
        content = gzip.compress(content, 1, mtime=0)
    for where, gone, new in changes:
        at = where % (len(content) + 1)
        content = content[:at] + new + content[at + gone :]
    if packed == "whole":
        content = gzip.compress(content, 1, mtime=0)
    path = tmp_path / f"rows.{kind}{'.gz' if packed else ''}"
    path.write_bytes(content)
    with contextlib.suppress(NexaError):
        spec = PrepareSpec("fuzzed", sources_of(path), model)
        body = prepare(spec, store=Store(tmp_path / "store")).body
        kept = sum(split.rows for split in body.splits.values())
        assert body.rows_read == kept + sum(body.dropped.values()) == detect(path).rows
