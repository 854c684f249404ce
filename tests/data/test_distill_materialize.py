"""A teacher's answers by themselves, with a teacher that answers from a function."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nexa.core.errors import DataError
from nexa.core.records import Draft
from nexa.core.store import Store
from nexa.data.distill_materialize import DistillSpec, distill_materialize, requests_of
from nexa.data.sources import Source
from nexa.lm.client import Request
from nexa.lm.resolve import ModelFiles
from nexa.lm.scripted_chat import ScriptedChat
from nexa.lm.teachers import HOSTS
from nexa.lm.teaching import Teacher, public_identity
from nexa.orchestrate.teaching import Choice, open_teacher
from tests.core.samples import suite_body
from tests.data.conftest import WriteRows
from tests.support.chain import seal

Said = Callable[[Request], str]


def teacher_of(tmp_path: Path, said: Said) -> Teacher:
    model = ScriptedChat(said, name="wise")
    return Teacher("wise", dict(model.identity), model, tmp_path / "journal.jsonl")


def spec_of(tmp_path: Path, path: Path, said: Said, **fields: Any) -> DistillSpec:
    return DistillSpec(teacher_of(tmp_path, said), sources=(Source.of(path),), **fields)


def rows_of(draft: Draft[Any]) -> list[dict[str, Any]]:
    data = draft.files["rows.jsonl"]
    assert isinstance(data, bytes)
    return [json.loads(line) for line in data.splitlines()]


def test_prompts_go_as_they_are_and_a_system_turn_is_not_trained(
    write_rows: WriteRows, store: Store, tmp_path: Path
) -> None:
    own = [{"role": "system", "content": "Rhyme."}, {"role": "user", "content": "B?"}]
    path = write_rows([{"prompt": "<|im_start|> A?"}, {"messages": own}])
    heard: list[Request] = []

    def said(request: Request) -> str:
        heard.append(request)
        return "  So.\n"

    spec = spec_of(tmp_path, path, said, system="Be brief.", temperature=0.5, seed=3)
    draft = distill_materialize(spec, store=store)
    by_id = {request.id: request for request in heard}
    assert [turn["content"] for turn in by_id["rows.jsonl:1"].messages] == [
        "Be brief.",
        "<|im_start|> A?",
    ]
    assert list(by_id["rows.jsonl:2"].messages) == own
    assert {(r.temperature, r.seed) for r in heard} == {(0.5, 3)}
    first, second = rows_of(draft)
    assert (first["prompt"], first["completion"]) == ("<|im_start|> A?", "So.")
    assert second["prompt"] == own
    assert draft.body.sources == {"rows.jsonl": Source.of(path).sha256}


def test_prompts_that_give_a_held_out_row_away_are_not_sent(
    write_rows: WriteRows, store: Store, tmp_path: Path
) -> None:
    path = write_rows([{"prompt": "What is held out?"}, {"prompt": "What is free to be asked?"}])
    held_out = {
        "id": "h1",
        "group": "h1",
        "domain": None,
        "messages": [{"role": "user", "content": "What is held  out?"}],
        "target": "This.",
    }
    lines = (json.dumps(held_out) + "\n").encode()
    suite = seal(store, "freeze", Draft("suite", "s", suite_body(), {"prompts.jsonl": lines}))
    heard: list[str] = []

    def said(request: Request) -> str:
        heard.append(request.messages[-1]["content"])
        return "So."

    draft = distill_materialize(spec_of(tmp_path, path, said), suite=suite, store=store)
    assert heard == ["What is free to be asked?"]
    assert draft.body.rejected == {"leaks a held-out row": 1}
    requests = requests_of(spec_of(tmp_path, path, said), suite=suite, store=store)
    assert [request.id for request in requests] == ["rows.jsonl:2"]


def test_a_teacher_on_this_machine_that_does_not_end_gives_no_row(
    write_rows: WriteRows, model: ModelFiles, store: Store, tmp_path: Path
) -> None:
    teacher = open_teacher(Choice(str(model.folder)), tmp_path)
    assert teacher.name == model.folder.name
    placed = Teacher(teacher.name, teacher.identity, teacher.model, tmp_path / "j.jsonl")
    path = write_rows([{"prompt": "A?"}, {"prompt": "B?"}])
    spec = DistillSpec(placed, sources=(Source.of(path),), max_new_tokens=4)
    with pytest.raises(DataError, match="gave no row in 2 requests: cut off 2"):
        distill_materialize(spec, store=store)


def test_addresses_of_one_s_own_are_told_by_their_digest() -> None:
    official = {"provider": "openai", "endpoint": HOSTS["openai"], "model": "m"}
    assert public_identity(official) == official
    own = public_identity({**official, "endpoint": "http://10.0.0.7:8000/v1"})
    assert own["endpoint"].startswith("sha256:")
    assert public_identity({"provider": "local"}) == {"provider": "local"}
