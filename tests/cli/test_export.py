from __future__ import annotations

import json
from pathlib import Path

import pytest

from nexa.cli.main import main
from tests.support.foreign import peft_adapter
from tests.support.project import Finished

Captured = pytest.CaptureFixture[str]


def test_a_run_is_exported_and_told_again(project: Finished, capsys: Captured) -> None:
    words = ["export", "latest", "--quantization", "Q8_0", "-o", "gguf"]
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[:2] == [
        "Exported: gguf",
        "  record  export/tiny-llama-elements-q8_0@v1",
    ]
    assert "where it came from: nexa lineage export/tiny-llama-elements-q8_0@v1" in out
    assert "Converting, and proving the result" in err
    assert main([*words, "-q"]) == 0
    assert "export/tiny-llama-elements-q8_0@v1, made before" in capsys.readouterr().out
    told = json.loads((project.root / "gguf" / "export.json").read_text())
    assert told["command"] == "nexa export latest --quantization Q8_0 --output gguf -q"


def test_lineage_and_verify_know_an_export(project: Finished, capsys: Captured) -> None:
    assert main(["export", "latest", "--format", "gguf", "-o", "gguf", "-q"]) == 0
    label = "export/tiny-llama-elements-q8_0"
    capsys.readouterr()
    assert main(["lineage", label]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{label}@v1  [convert]")
    assert lines[1].startswith("  export: export/tiny-llama-elements@v1  [merge]")
    assert main(["verify", label]) == 0
    run_id = newest_run(project)
    assert main(["verify", run_id]) == 0
    capsys.readouterr()
    (project.root / "gguf" / "README.md").write_text("changed")
    assert main(["verify", run_id]) == 10
    assert "was changed after it was left here" in capsys.readouterr().err


def newest_run(project: Finished) -> str:
    return max((project.root / "runs" / "manifests").glob("*.json")).stem


def test_the_result_as_json(project: Finished, capsys: Captured) -> None:
    assert main(["export", "./output", "--dtype", "float32", "-o", "out", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["label"] == "export/tiny-llama-elements-float32@v1"
    assert told["body"]["dtype"] == "float32"
    assert told["files"]["model.safetensors"] > 100_000


def test_a_dry_run_makes_nothing(project: Finished, capsys: Captured) -> None:
    words = ["export", "latest", "--max-shard-size", "20kB", "-o", "out", "--dry-run"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "safetensors, bfloat16, about" in out
    assert "steps  merge" in out
    assert out.endswith("Nothing was made.\n")
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["steps"] == ["merge"]
    assert main(["export", "latest", "-o", "out", "--dry-run", "-q"]) == 0
    assert "none: it is sealed in this form already" in capsys.readouterr().out
    assert not Path("out").exists()


def test_it_works_in_a_folder_without_a_project(
    tmp_path: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.chdir(tmp_path)
    peft_adapter(tmp_path / "theirs", tiny_llama)
    assert main(["export", "theirs", "--quantization", "f16", "-o", "out"]) == 0
    out, err = capsys.readouterr()
    assert f"note: records are kept in {tmp_path / '.nexa'}" in err
    assert "export/theirs-f16@v1" in out


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        (["latest"], 2, "Missing option '--output'"),
        (["-o", "out"], 2, "Missing argument 'MODEL'"),
        (["nothing", "-o", "out"], 5, "there is no model 'nothing'"),
        (["latest", "-o", "out", "--quantization", "q4_km"], 2, "--quantization q4_k_m"),
        (["latest", "-o", "out", "--format", "onnx"], 2, "'onnx' is not one of"),
        (["latest", "-o", "out", "--max-shard-size", "big"], 2, "should be a number of bytes"),
        (["latest", "-o", "out", "--max-shard-size", "0"], 2, "'0' is no size"),
        (["latest", "-o", "."], 11, "holds files that nexa did not put there"),
        (["1999-01-01", "-o", "out"], 2, "there is no run 1999-01-01"),
        (["export/none", "-o", "out"], 1, "there is no export named 'none'"),
        (["latest", "-o", "out", "--base-source", "hub"], 2, "for aliases with several sources"),
    ],
)
def test_bad_words_end_with_their_code_and_a_line(
    project: Finished, capsys: Captured, words: list[str], code: int, complaint: str
) -> None:
    assert main(["export", *words, "-q"]) == code
    assert complaint in capsys.readouterr().err
