from __future__ import annotations

import json
from pathlib import Path

import pytest

from nexa.cli.main import main
from tests.support.foreign import full_model
from tests.support.project import Finished

Captured = pytest.CaptureFixture[str]


def test_an_export_that_is_the_model(project: Finished, capsys: Captured) -> None:
    assert main(["export", "latest", "--quantization", "q8_0", "-o", "gguf", "-q"]) == 0
    capsys.readouterr()
    assert main(["parity", "gguf", "./output"]) == 0
    heading, *lines = capsys.readouterr().out.splitlines()
    assert heading.split() == ["check", "value", "limit"]
    assert all("  ok  " in line for line in lines)
    assert main(["parity", "gguf", "latest", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["passed"]


def test_an_export_that_is_not_ends_with_the_error_of_parity(
    tmp_path: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.chdir(tmp_path)
    full_model(tmp_path / "other", tiny_llama)
    assert main(["parity", "other", str(tiny_llama)]) == 8
    out, err = capsys.readouterr()
    assert "FAILED" in out
    assert "other is not tiny-llama" in err
    assert main(["parity", "other", str(tiny_llama), "--json"]) == 8
    told = json.loads(capsys.readouterr().out)
    assert not told["passed"]


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        (["here"], 2, "Missing argument 'SOURCE'"),
        (["nothing", "nothing"], 5, "there is no model 'nothing'"),
        (["config.yaml", "latest"], 5, "is neither a model folder nor a .gguf file"),
    ],
)
def test_bad_words_end_with_their_code_and_a_line(
    project: Finished, capsys: Captured, words: list[str], code: int, complaint: str
) -> None:
    assert main(["parity", *words, "-q"]) == code
    assert complaint in capsys.readouterr().err
