from __future__ import annotations

import json
from pathlib import Path

from nexa.weights.probes import NASTY
from nexa.weights.text_checks import (
    end_of_turn_check,
    ids_check,
    listed_ends,
    template_ends,
    tokenizer_checks,
)
from tests.support.tiny import CHATML, tiny_tokenizer
from tests.weights.gguf.folders import byte_level


def test_a_tokenizer_is_itself() -> None:
    assert all(check.passed for check in tokenizer_checks(tiny_tokenizer(), tiny_tokenizer()))


def test_another_splitter_gives_other_ids() -> None:
    checks = list(tokenizer_checks(byte_level("qwen2"), byte_level("gpt-2")))

    assert [check.name for check in checks if not check.passed] == ["token_ids", "conversation"]
    assert len(checks[0].value) == 3


def test_a_template_that_no_conversation_fits_is_compared_by_what_it_refuses() -> None:
    refusing = tiny_tokenizer(chat_template="{{ raise_exception('no') }}")

    checks = {check.name: check.passed for check in tokenizer_checks(refusing, tiny_tokenizer())}

    assert checks == {"token_ids": True, "template": False, "conversation": False}
    assert all(check.passed for check in tokenizer_checks(refusing, refusing))


def test_a_text_is_told_once_and_cut() -> None:
    check = ids_check("token_ids", ["a" * 100, "a" * 100, "b", "c", "d"])

    assert not check.passed
    assert check.value == ["a" * 40, "b", "c"]
    assert ids_check("token_ids", []).passed


def test_more_ends_are_no_fault_and_a_missing_one_is() -> None:
    assert end_of_turn_check([2, 0, None], [2]).passed
    assert not end_of_turn_check([0], [2, 0]).passed


def test_ends_are_those_of_the_generation_config_else_of_the_config(tmp_path: Path) -> None:
    assert listed_ends(tmp_path) == []
    (tmp_path / "config.json").write_text(json.dumps({"eos_token_id": 3}))
    assert listed_ends(tmp_path) == [3]
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [1, 2]}))
    assert listed_ends(tmp_path) == [1, 2]


def test_a_template_ends_where_its_turn_ends_else_at_the_tokenizers_eos() -> None:
    assert template_ends(tiny_tokenizer(chat_template=CHATML)) == [2]
    refusing = tiny_tokenizer(chat_template="{{ raise_exception('no') }}")
    assert template_ends(refusing) == [2]
    refusing.eos_token = None
    assert template_ends(refusing) == []


def test_the_corpus_has_what_tokenizers_are_known_to_differ_on() -> None:
    assert len(set(NASTY)) == len(NASTY) > 100
    text = "".join(NASTY)
    for piece in ("<|im_end|>", "\x00", "\r\n", "🙂", "水", "1234567", "é", "שלום", "\t"):
        assert piece in text
