from __future__ import annotations

import json
from pathlib import Path

import pytest

from nexa.cli.main import main


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """./data with rows, held-out rows and a pool; the current folder is its parent."""
    folder = tmp_path / "data"
    folder.mkdir()
    for name, rows in (("train", 1234), ("eval", 70), ("pool", 9)):
        lines = [json.dumps({"prompt": f"{name} {n}?", "completion": "yes"}) for n in range(rows)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    monkeypatch.chdir(tmp_path)
    return folder


def test_it_prints_what_it_chose(
    data: Path, tiny_llama: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", "--base", str(tiny_llama), "--data", "./data/", "-q"]) == 0
    assert capsys.readouterr().out == (
        "Created config.yaml with:\n"
        f"  Model: {tiny_llama} (32 hidden, 2 layers)\n"
        "  Method: LoRA (rank=16, alpha=32)\n"
        "  Data: ./data/train.jsonl (1,234 samples detected)\n"
        "  Held out: ./data/eval.jsonl (70 samples)\n"
        "  Optimizer: AdamW (lr=1e-3, warmup=16 steps)\n"
        "  Output: ./output/\n"
        "  Left out: pool.jsonl (a pool of rows for later rounds)\n"
        "Next: nexa train\n"
    )


def test_again_it_says_that_nothing_changed(
    data: Path, tiny_llama: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["init", "--base", str(tiny_llama), "--data", "data", "--method", "full"]
    main(words)
    capsys.readouterr()
    assert main(words) == 0
    told = capsys.readouterr().out
    assert told.startswith("Unchanged: config.yaml with:\n")
    assert "  Method: Full fine-tuning\n" in told


def test_qlora_says_what_the_base_is_held_in(
    data: Path, tiny_llama: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["init", "--base", str(tiny_llama), "--data", "data", "--method", "qlora"]
    assert main(words) == 0
    assert "  Method: QLoRA (rank=16, alpha=32, base in 4-bit NF4)\n" in capsys.readouterr().out


def test_a_file_alone_and_a_folder_of_its_own(
    data: Path, tiny_llama: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["init", "--base", str(tiny_llama), "--data", "data/eval.jsonl", "--output", "mine"]
    assert main(words) == 0
    told = capsys.readouterr().out
    assert "  Held out: set aside when training begins (7 samples)\n" in told
    assert told.endswith("Next: nexa train mine/config.yaml\n")


def test_with_json_it_prints_the_record(
    data: Path, tiny_llama: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", "--base", str(tiny_llama), "--data", "data", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["state"] == "created"
    assert record["config"]["lora"]["rank"] == 16


def test_an_edited_config_is_kept_and_the_way_out_named(
    data: Path, tiny_llama: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("config.yaml").write_text("model: {path: mine}\n")
    words = ["init", "--base", str(tiny_llama), "--data", "data"]
    assert main(words) == 2
    assert "--force replaces it" in capsys.readouterr().err
    assert main([*words, "--force"]) == 0
    assert capsys.readouterr().out.startswith("Replaced config.yaml with:\n")


def test_a_name_and_a_share_are_flags(
    data: Path, tiny_llama: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["init", "--base", str(tiny_llama), "--data", "data/train.jsonl", "--name", "mine"]
    assert main([*words, "--eval-fraction", "0.25"]) == 0
    told = capsys.readouterr().out
    assert "  Output: ./output/mine/\n" in told
    assert "  Held out: set aside when training begins (308 samples)\n" in told
