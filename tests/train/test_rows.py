from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from nexa.core.errors import DataError, LeakError, TemplateError, TruncationError
from nexa.core.records import Artifact, Draft, SuiteBody
from nexa.core.store import Store
from nexa.lm.chat import ChatTemplate
from nexa.train.batches import TokenRow
from nexa.train.rendered import mask_digest
from nexa.train.rows import TrainingRows, training_rows
from tests.train.sample import conversation, dataset, random_rows


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture(scope="module")
def chat(tiny_llama: Path) -> ChatTemplate:
    return ChatTemplate(AutoTokenizer.from_pretrained(tiny_llama))


def test_rows_are_rendered_with_the_answer_trained(
    store: Store, tmp_path: Path, chat: ChatTemplate
) -> None:
    data = training_rows(
        dataset(store, tmp_path, [conversation(1), conversation(2)]), store, chat, None
    )
    assert [row.row_id for row in data.rows] == ["train-0", "train-1"]
    row = data.rows[0]
    answer = chat.tokenizer.decode([i for i, t in zip(row.ids, row.trained, strict=True) if t])
    assert answer == '{"density": 1.5}<|im_end|>'
    assert (data.truncated, data.without_label, data.max_length) == (0, 0, 0)
    assert data.mask_sha256 == mask_digest(data.rows)


def test_a_row_is_cut_to_the_length_the_data_was_prepared_for(
    store: Store, tmp_path: Path, chat: ChatTemplate
) -> None:
    rows = [conversation(i % 9) for i in range(150)] + [conversation(1, "long " * 200)]
    whole = dataset(store, tmp_path, rows, max_length=100)
    data = training_rows(whole, store, chat, None)
    assert data.truncated == 1
    assert data.max_length == 100
    assert max(len(row.ids) for row in data.rows) == 100
    assert training_rows(whole, store, chat, 2000).truncated == 0


def test_an_answer_that_is_cut_off_whole_is_left_out_and_counted(
    store: Store, tmp_path: Path, chat: ChatTemplate
) -> None:
    lost = [{"role": "user", "content": "why " * 200}, {"role": "assistant", "content": "so"}]
    rows = [conversation(i % 9) for i in range(150)] + [lost]
    data = training_rows(dataset(store, tmp_path, rows, max_length=100), store, chat, None)
    assert data.without_label == 1
    assert len(data.rows) == 150


def test_answers_all_cut_off_stop(store: Store, tmp_path: Path, chat: ChatTemplate) -> None:
    whole = dataset(store, tmp_path, [conversation(1)], max_length=5)
    with pytest.raises(TruncationError, match="every answer is cut off"):
        training_rows(whole, store, chat, None)


def test_answers_that_lose_their_end_stop(store: Store, tmp_path: Path, chat: ChatTemplate) -> None:
    whole = dataset(store, tmp_path, [conversation(1, "long " * 200)], max_length=100)
    with pytest.raises(TruncationError, match="learn to stop"):
        training_rows(whole, store, chat, None)


def test_no_rows_stop(store: Store, tmp_path: Path, chat: ChatTemplate) -> None:
    with pytest.raises(DataError, match="no training rows"):
        training_rows(dataset(store, tmp_path, []), store, chat, None)


def test_a_held_out_conversation_among_the_training_rows_stops(
    store: Store, tmp_path: Path, chat: ChatTemplate
) -> None:
    leaked = dataset(
        store, tmp_path, [conversation(1), conversation(2)], [conversation(3), conversation(2)]
    )
    with pytest.raises(LeakError, match="evaluation rows"):
        training_rows(leaked, store, chat, None)


@pytest.mark.parametrize("target", ["17.5", {"density": 17.5}])
def test_a_prompt_of_the_frozen_suite_among_the_training_rows_stops(
    store: Store, tmp_path: Path, chat: ChatTemplate, target: object
) -> None:
    rows = [conversation(i) for i in range(1, 20)]

    def suite_of(number: int) -> Artifact[SuiteBody]:
        prompt = {"id": "a", "messages": conversation(number)[:1], "target": target}
        body = SuiteBody(
            task="text",
            rows=1,
            groups=1,
            domains={},
            metrics=["exact"],
            primary="exact",
            max_new_tokens=9,
        )
        draft = Draft("suite", "s", body, {"prompts.jsonl": json.dumps(prompt).encode() + b"\n"})
        return store.seal(draft, step={"name": "freeze"}, fingerprint="1" * 64, inputs={})

    def trained_beside(suite: Artifact[SuiteBody]) -> TrainingRows:
        made = dataset(store, tmp_path, rows)
        beside = replace(made, inputs={"suite": suite.digest})
        return training_rows(beside, store, chat, None)

    assert len(trained_beside(suite_of(77)).rows) == 19
    with pytest.raises(LeakError, match="same prompt"):
        trained_beside(suite_of(17))


def test_a_row_that_the_template_refuses_is_named(
    store: Store, tmp_path: Path, chat: ChatTemplate
) -> None:
    bad = [{"role": "user", "content": "a question without an answer"}]
    whole = dataset(store, tmp_path, [conversation(1), bad])
    with pytest.raises(TemplateError, match="row train-1"):
        training_rows(whole, store, chat, None)


def test_the_mask_digest_sees_ids_masks_and_where_rows_end() -> None:
    def row(ids: list[int], trained: list[bool]) -> TokenRow:
        return TokenRow("x", ids, trained)

    digests = {
        mask_digest([row([1, 2, 3], [False, True, True])]),
        mask_digest([row([1, 2, 3], [False, False, True])]),
        mask_digest([row([1, 2, 4], [False, True, True])]),
        mask_digest([row([1], [False]), row([2, 3], [True, True])]),
        mask_digest([row([1, 2], [False, True]), row([3], [True])]),
    }
    assert len(digests) == 5
    assert mask_digest(random_rows(3)) == mask_digest(random_rows(3))
