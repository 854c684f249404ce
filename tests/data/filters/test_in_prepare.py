"""Filters of single rows where they run: between the reading of rows and all that compares them."""

from __future__ import annotations

import io
import json
from typing import Any

import pyarrow.parquet as pq
import pytest

from nexa.core.store import Store
from nexa.data.filters.registry import specs
from nexa.data.prepare import PrepareSpec, prepare
from nexa.data.sources import sources_of
from nexa.lm.resolve import ModelFiles
from tests.data.build import content
from tests.data.conftest import WriteRows

HUB = "h" + "f_q8ZrT2vLx9Kp4WmY7sNdB1cHf6JgAeU3"
ROWS = [
    {"prompt": "Who made sample seven?", "completion": "Jane (jane@kingsmead.edu) made it."},
    {"prompt": "Who made sample seven?", "completion": "Jane (joan@kingsmead.edu) made it."},
    {"prompt": "Which token is it?", "completion": f"It is {HUB} and no other."},
    {"prompt": "Say so.", "completion": "so " * 40},
    {"prompt": "Which metal is it?", "completion": "It is copper.\r\nIt conducts."},
    {"prompt": "What is six times seven?", "completion": "42"},
]


@pytest.mark.parametrize("workers", [0, 2])
def test_rows_are_mended_redacted_and_left_out_and_all_of_it_is_counted(
    write_rows: WriteRows, model: ModelFiles, store: Store, workers: int
) -> None:
    path = write_rows(ROWS)
    asked = specs(["pii", {"secrets": {"action": "drop"}}])
    spec = PrepareSpec("rows", sources_of(path), model, filters=asked, workers=workers)
    draft = prepare(spec, store=store)
    # Two rows that differ in an address alone are copies once it is gone.
    assert draft.body.dropped == {
        "exact duplicate": 1,
        "loop": 1,
        "secret (Hugging Face token)": 1,
    }
    assert draft.body.mended == {"normalised": 1, "personal data redacted (email)": 1}
    table = pq.read_table(io.BytesIO(content(draft, "train.parquet"))).to_pylist()
    assert [row["messages"][-1]["content"] for row in table] == [
        "Jane ([EMAIL]) made it.",
        "It is copper.\nIt conducts.",
        "42",
    ]
    rejects: list[dict[str, Any]] = [
        json.loads(line) for line in content(draft, "rejects.jsonl").splitlines()
    ]
    told = {reject["reason"]: reject["detail"] for reject in rejects}
    assert told["secret (Hugging Face token)"] == (
        "1 Hugging Face token in message 2 of 2, at character 7"
    )
    for name in draft.files:
        assert HUB.encode() not in content(draft, name)
        assert b"kingsmead" not in content(draft, name)
