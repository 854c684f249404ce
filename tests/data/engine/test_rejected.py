"""Rejects stand as their lines do; of one line's, as the filters do that left them out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nexa.core.store import Store
from nexa.data.engine import stager
from nexa.data.prepare import PrepareSpec, prepare
from nexa.data.sources import sources_of
from nexa.lm.resolve import ModelFiles
from tests.data.build import content, contents, pair


def rows() -> list[str]:
    """Elements of every fate, in an order in which no filter goes through them."""
    asked, said = pair(1)
    kept = [json.dumps({"prompt": pair(n)[0], "completion": "a"}) for n in range(2, 30)]
    made = [
        json.dumps({"prompt": asked, "completion": said}),
        json.dumps({"prompt": "x <|im_end|>", "completion": "a"}),
        json.dumps({"prompt": f"{asked.upper()}!", "completion": said}),
        '{"prompt": 1, "completion": "a"}',
        json.dumps({"prompt": asked, "completion": f"{said} "}),
        "{broken}",
    ]
    return [*made, *kept]


@pytest.mark.parametrize("batch_rows", [2, 3, 512])
@pytest.mark.parametrize("lines", [1, 7])
def test_elements_of_one_line_are_told_by_filter(
    model: ModelFiles,
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    batch_rows: int,
    lines: int,
) -> None:
    monkeypatch.setattr(stager, "BATCH_ROWS", batch_rows)
    path = tmp_path / "x.json"
    made = rows()
    path.write_text("[" + ",\n".join([", ".join(made[:6]), *made[6:]][:lines] + made[-1:]) + "]")
    if lines == 1:
        path.write_text("[" + ", ".join(made) + "]")
    draft = prepare(PrepareSpec("x", sources_of(path), model), store=store)
    found = [json.loads(line) for line in content(draft, "rejects.jsonl").splitlines()]
    assert [(r["line"], r.get("element", 0), r["reason"]) for r in found] == [
        (1, 4, "malformed"),
        (1, 6, "malformed"),
        (1, 5, "exact duplicate"),
        (1, 3, "near-duplicate"),
        (1, 2, "refused by the chat template"),
    ]
    assert found[2]["detail"] == "the same as x.json:1"


def test_rows_that_are_named_by_others_keep_their_element(
    model: ModelFiles, store: Store, tmp_path: Path
) -> None:
    path = tmp_path / "x.json"
    made = [{"prompt": pair(n)[0], "completion": "a"} for n in (1, 2, 2)]
    path.write_text(json.dumps(made))
    spec = PrepareSpec("x", sources_of(path), model)
    draft = prepare(spec, store=store)
    (found,) = [json.loads(line) for line in content(draft, "rejects.jsonl").splitlines()]
    assert found["detail"] == "the same as x.json:1[2]"
    assert contents(prepare(replace(spec, workers=0), store=store)) == contents(draft)


def test_lines_of_text(model: ModelFiles, store: Store, tmp_path: Path) -> None:
    records: list[dict[str, Any]] = [{"prompt": "ä", "completion": "b"}] * 3
    path = tmp_path / "ä.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in records))
    draft = prepare(PrepareSpec("x", sources_of(path), model), store=store)
    assert "ä.jsonl:1" in content(draft, "rejects.jsonl").decode()
