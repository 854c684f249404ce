"""transformers' Auto classes are what transformers itself hands out."""

from __future__ import annotations

import subprocess
import sys

import pytest
import transformers
from transformers.utils import import_utils

from nexa.lm import auto
from nexa.lm.auto import auto_class

FRESH = """
import os, sys
reads = []
sys.addaudithook(lambda event, told: reads.append(told[0]) if event == "open" else None)
from nexa.lm.auto import auto_class
first = len([path for path in reads if str(path).endswith(".py")])
AutoTokenizer = auto_class("AutoTokenizer")
second = len([path for path in reads if str(path).endswith(".py")]) - first
import transformers
assert AutoTokenizer is transformers.AutoTokenizer
assert transformers.LlamaConfig is transformers.models.llama.LlamaConfig
print(first, second)
"""


def test_the_models_are_looked_through_once() -> None:
    done = subprocess.run([sys.executable, "-c", FRESH], capture_output=True, text=True, check=True)
    first, second = map(int, done.stdout.split())
    assert first > 1000
    assert second < 100


def test_what_was_known_is_the_same_as_what_a_look_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    look = import_utils.create_import_structure_from_path
    models = auto.Path(transformers.__file__).parent / "models"
    monkeypatch.delitem(sys.modules, "transformers.models", raising=False)
    with auto._models_known():
        known = import_utils.create_import_structure_from_path(str(models / "__init__.py"))
        assert import_utils.create_import_structure_from_path(str(models / "llama"))
    assert import_utils.create_import_structure_from_path is look
    assert known == look.__wrapped__(str(models / "__init__.py"))


def test_a_transformers_that_looks_otherwise_is_left_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "transformers.models", raising=False)
    monkeypatch.delattr(import_utils, auto.LOOK)
    with auto._models_known():
        assert not hasattr(import_utils, auto.LOOK)
    assert auto_class("AutoConfig") is transformers.AutoConfig
