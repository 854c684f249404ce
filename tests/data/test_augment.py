"""The methods of augment by themselves, with a teacher that answers from a function."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nexa.core.errors import DataError
from nexa.core.records import Artifact, DatasetBody, Draft, SyntheticBody
from nexa.core.store import Store
from nexa.data.augment import MOST_EXAMPLE_CHARACTERS, AugmentSpec, augment, requests_of
from nexa.data.prepare import PrepareSpec, prepare
from nexa.data.sources import Source
from nexa.lm.client import Request
from nexa.lm.resolve import ModelFiles
from nexa.lm.scripted_chat import ScriptedChat
from nexa.lm.teaching import Teacher
from tests.data.build import pair
from tests.data.conftest import WriteRows
from tests.support.chain import seal
from tests.support.teacher import inside, teach

Said = Callable[[Request], str]
TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What is the value of zinc, 7 or 8?"},
    {"role": "assistant", "content": "It is 8."},
    {"role": "user", "content": "And of lead?"},
    {"role": "assistant", "content": "It is 82."},
]


@pytest.fixture
def dataset(
    write_rows: WriteRows, model: ModelFiles, store: Store, tmp_path: Path
) -> Artifact[DatasetBody]:
    """Three rows of one question, and a talk of two with a system turn."""
    rows: list[dict[str, Any]] = [
        {"prompt": pair(n)[0], "completion": pair(n)[1], "domain": "d", "group": f"g{n}"}
        for n in range(3)
    ]
    path = write_rows([*rows, {"messages": TALK}])
    talk = write_rows([{"messages": TALK}], "talk.jsonl")
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    spec = PrepareSpec("rows", (Source.of(path), Source.of(talk)), model, scratch=tmp_path)
    return seal(store, "prepare", prepare(spec, store=store))


def teacher_of(tmp_path: Path, said: Said) -> Teacher:
    model = ScriptedChat(said, name="wise")
    return Teacher("wise", dict(model.identity), model, tmp_path / "journal.jsonl")


def as_teacher(request: Request) -> str:
    return teach([dict(turn) for turn in request.messages])


def made(
    tmp_path: Path,
    store: Store,
    dataset: Artifact[DatasetBody] | None,
    said: Said = as_teacher,
    **fields: Any,
) -> tuple[Draft[SyntheticBody], list[dict[str, Any]]]:
    draft = augment(
        AugmentSpec(teacher=teacher_of(tmp_path, said), **fields), dataset=dataset, store=store
    )
    rows = draft.files["rows.jsonl"]
    assert isinstance(rows, bytes)
    return draft, [json.loads(line) for line in rows.splitlines()]


def test_only_the_last_question_of_a_talk_is_put_in_other_words(
    dataset: Artifact[DatasetBody], store: Store, tmp_path: Path
) -> None:
    _, rows = made(tmp_path, store, dataset, method="paraphrase", rows=4)
    [talk] = [row for row in rows if isinstance(row["prompt"], list)]
    assert talk["prompt"] == TALK[:-1]
    assert talk["completion"] == "It is 82."
    assert "domain" not in talk


def test_answers_and_both_may_be_put_in_other_words(
    dataset: Artifact[DatasetBody], store: Store, tmp_path: Path
) -> None:
    def shout(request: Request) -> str:
        texts = inside([dict(turn) for turn in request.messages])
        assert request.json_schema is not None
        assert list(request.json_schema["required"]) == list(texts)
        return json.dumps({name: text.upper() for name, text in texts.items()})

    _, answers = made(
        tmp_path / "a", store, dataset, shout, method="paraphrase", rows=4, part="answer"
    )
    assert all(row["completion"].isupper() for row in answers)
    assert not any(str(row["prompt"]).isupper() for row in answers)
    _, both = made(tmp_path / "b", store, dataset, shout, method="paraphrase", rows=4, part="both")
    assert all(row["completion"].isupper() for row in both)
    assert {turn["content"] for row in both if isinstance(row["prompt"], list)
            for turn in row["prompt"]} >= {"AND OF LEAD?", "Be brief."}  # fmt: skip


def test_a_new_instruction_keeps_the_system_turn_of_its_first_example(
    dataset: Artifact[DatasetBody], store: Store, tmp_path: Path
) -> None:
    draft, rows = made(tmp_path, store, dataset, method="self_instruct", rows=12)
    talks = [row for row in rows if isinstance(row["prompt"], list)]
    assert 0 < len(talks) < 12
    assert all(row["prompt"][0] == TALK[0] and len(row["prompt"]) == 2 for row in talks)
    assert all(len(row["parents"]) == 3 for row in rows)
    assert draft.name == "rows-self_instruct"
    assert draft.kind == "synthetic"


def test_examples_that_fill_the_context_are_left_out(
    write_rows: WriteRows, model: ModelFiles, store: Store, tmp_path: Path
) -> None:
    long = " ".join(pair(n)[0] for n in range(60))[: MOST_EXAMPLE_CHARACTERS - 100]
    path = write_rows([{"prompt": f"{n} {long}", "completion": f"{n}"} for n in (1, 2, 3)])
    spec = PrepareSpec("long", (Source.of(path),), model, near_duplicates="keep", scratch=tmp_path)
    roomy = replace(model, folder=model.folder)
    roomy.config["max_position_embeddings"] = 1 << 20
    dataset = seal(store, "prepare", prepare(replace(spec, model=roomy), store=store))
    _, rows = made(tmp_path, store, dataset, method="self_instruct", rows=2)
    assert all(len(row["parents"]) == 1 for row in rows)


def test_a_quote_that_is_not_in_the_document_proves_nothing(store: Store, tmp_path: Path) -> None:
    (tmp_path / "iron.txt").write_text("Iron  rusts in\nwet air.\n")
    documents = (Source.of(tmp_path / "iron.txt"),)
    answer = {"question": "Does iron rust?", "answer": "Yes.", "quote": "iron rusts in wet air"}
    fields: dict[str, Any] = {
        "method": "question_from_document",
        "rows": 1,
        "documents": documents,
    }
    draft, rows = made(tmp_path / "a", store, None, lambda _: json.dumps(answer), **fields)
    assert (draft.name, rows[0]["group"]) == ("documents-question_from_document", "iron.txt:1")
    wrong = {**answer, "quote": "iron shines"}
    with pytest.raises(DataError, match="the quote is not in the document 1"):
        made(tmp_path / "b", store, None, lambda _: json.dumps(wrong), **fields)


def test_a_good_answer_is_not_revised(
    dataset: Artifact[DatasetBody], store: Store, tmp_path: Path
) -> None:
    def review(request: Request) -> str:
        if request.id.startswith("critique") and "zinc" in request.messages[-1]["content"]:
            return json.dumps({"good": True, "critique": "Well said."})
        return as_teacher(request)

    draft, rows = made(tmp_path, store, dataset, review, method="critique_and_revise", rows=4)
    assert len(rows) == 3
    assert draft.body.rejected == {"nothing to improve": 1}
    assert draft.body.requested == 7


def test_without_a_dataset_there_is_nothing_to_show(store: Store, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no dataset whose rows"):
        made(tmp_path, store, None, method="paraphrase", rows=1)


def test_an_estimate_counts_the_second_round_at_its_longest(
    dataset: Artifact[DatasetBody], store: Store, tmp_path: Path
) -> None:
    teacher = teacher_of(tmp_path, as_teacher)
    spec = AugmentSpec(teacher, "critique_and_revise", rows=9, max_new_tokens=50)
    requests = requests_of(spec, dataset=dataset, store=store)
    assert len(requests) == 18
    assert len({request.id for request in requests}) == 18
    assert requests[-1].messages[-1]["content"].count("word ") == 50


def test_new_rows_are_asked_warm_and_reviews_at_zero(
    dataset: Artifact[DatasetBody], store: Store, tmp_path: Path
) -> None:
    teacher = teacher_of(tmp_path, as_teacher)
    for method, wanted in (("self_instruct", {0.3}), ("critique_and_revise", {0.0})):
        spec = AugmentSpec(teacher, method, rows=3, temperature=0.3)  # type: ignore[arg-type]
        requests = requests_of(spec, dataset=dataset, store=store)
        assert {request.temperature for request in requests} == wanted
