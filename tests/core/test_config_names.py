"""What else a key may be called, and what is answered."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from ruamel.yaml import YAML

from nexa.core.config import parse_config
from nexa.core.config_names import OTHER_NAMES, OTHER_VALUES
from nexa.core.errors import ConfigError
from tests.core.test_config import MINIMAL, mistakes


def test_what_other_tools_call_a_key_is_told_and_is_there() -> None:
    for other, meant in OTHER_NAMES.items():
        found = mistakes(f"{MINIMAL}training: {{{other}: 1}}\n")
        assert found == [f"line 3: training.{other} is not a key: did you mean {meant}?"]
        path, _, value = meant.partition(": ")
        section, *keys = path.split(".")
        tree: Any = value or 1
        for key in reversed(keys):
            tree = {key: tree}
        out = StringIO()
        YAML(typ="safe", pure=True).dump({"training": {}, **{section: tree}}, out)
        told = mistakes(f"{out.getvalue()}zzzz: 1\n")  # refused, but never for that key
        assert not any("is not a key" in line and "zzzz" not in line for line in told)


def test_what_other_tools_call_a_choice_is_told_and_is_there() -> None:
    places = {"wsd": "scheduler", "cosine": "scheduler", "constant": "scheduler"}
    places |= {"adamw": "optimizer", "adamw8bit": "optimizer"}
    for other, meant in OTHER_VALUES.items():
        place = f"{places.get(meant, 'training')}.{'name' if meant in places else 'precision'}"
        section, key = place.split(".")
        (found,) = mistakes(f"{MINIMAL}{section}: {{{key}: {other}}}\n")
        assert found.startswith(f"line 3: {place}: should be ")
        assert found.endswith(f"(got {other!r}): did you mean {meant!r}?")
        parse_config(f"{MINIMAL}{section}: {{{key}: {meant}}}\n")


@pytest.mark.parametrize(
    ("lines", "meant"),
    [
        ("training: {rank: 4}", "lora.rank"),
        ("training: {warmup_steps: 4}", "scheduler.warmup_steps"),
        ("optimizer: {patience: 4}", "training.early_stopping.patience"),
        ("epochs: 3", "training.epochs"),
        ("training: {checkpoints: {evry: 3}}", "'every'"),
        ("training: {validation: {row: 3}}", "'rows'"),
        ("training: {validation: {zzzz: 3}}", None),
    ],
)
def test_a_key_of_another_section_is_told_with_its_section(lines: str, meant: str | None) -> None:
    (found,) = mistakes(f"{MINIMAL}{lines}\n")
    assert found.endswith(f"did you mean {meant}?" if meant else "known: rows, every")


def test_a_key_like_no_other_is_answered_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match="known: rank, alpha"):
        parse_config("model: {path: m}\ndata: {train: t}\nlora: {zzzz: 1}\n")
