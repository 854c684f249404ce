from __future__ import annotations

import shlex
from dataclasses import replace

from nexa.cli.wizard.answers import Answers, typed

ANSWERS = Answers(
    base="smollm2-135m",
    source="wheel",
    data="./my rows.jsonl",
    name="mine",
    method="lora",
    mode="local",
    train_options=(),
    eval_fraction=0.1,
    hub="local",
    repo="you/mine",
    private=False,
)


def test_the_commands_are_those_a_user_would_type() -> None:
    assert [typed(words) for words in ANSWERS.commands()] == [
        "nexa init --base smollm2-135m --base-source wheel --method lora "
        "--data './my rows.jsonl' --name mine",
        "nexa check",
        "nexa train",
        "nexa publish --repo you/mine --hub local ./output/mine",
    ]


def test_what_is_the_default_is_not_written() -> None:
    plain = replace(ANSWERS, source="auto", eval_fraction=None)
    assert plain.commands()[0] == [
        *("init", "--base", "smollm2-135m", "--method", "lora"),
        *("--data", "./my rows.jsonl", "--name", "mine"),
    ]
    assert replace(ANSWERS, eval_fraction=0.25).commands()[0][-2:] == ["--eval-fraction", "0.25"]


def test_nothing_is_published_unasked() -> None:
    words = replace(ANSWERS, hub=None, repo=None).commands()
    assert [command[0] for command in words] == ["init", "check", "train"]


def test_the_hub_is_named_and_so_is_privacy() -> None:
    hub = "https://huggingface.co"
    publish = replace(ANSWERS, hub=hub, private=True).commands()[-1]
    expected = "publish --repo you/mine --hub https://huggingface.co --private ./output/mine"
    assert publish == shlex.split(expected)


def test_a_config_that_is_kept_needs_no_init_and_has_its_own_output() -> None:
    words = ANSWERS.commands(keep_config=True, output_dir="./elsewhere")
    assert [command[0] for command in words] == ["check", "train", "publish"]
    assert words[-1][-1] == "./elsewhere"


def test_where_to_train_is_an_option_of_train() -> None:
    assert replace(ANSWERS, train_options=("--on", "ssh:box")).commands()[2] == [
        *("train", "--on", "ssh:box")
    ]


def test_the_record_is_plain_data() -> None:
    assert ANSWERS.to_json()["repo"] == "you/mine"
