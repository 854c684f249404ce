"""A GGUF publication, by the command line: trained, published twice, verified from files alone."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from nexa.cli.main import main
from nexa.core.tiers import Tiers
from tests.support.hub_emulator import HubEmulator
from tests.support.project import write_project
from tests.support.tiny import write_tiny_model

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> tuple[Path, Path]:
    """A project after `nexa train`, flight check and all, and the folder it was published into."""
    model = write_tiny_model(tmp_path / "tiny-llama")
    publish = {"repo": "you/small", "hub": "local", "format": "gguf", "quantization": "q8_0, f16"}
    project = tmp_path / "project"
    project.mkdir()
    write_project(project, model, publish=publish)
    monkeypatch.chdir(project)
    assert main(["train"]) == 0
    capsys.readouterr()
    return project, project / ".nexa" / "hub" / "you" / "small"


def test_what_training_published_verifies_where_nothing_else_is(
    trained: tuple[Path, Path], tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, published = trained
    alone = shutil.copytree(published, tmp_path / "elsewhere" / "small")
    shutil.rmtree(project)
    monkeypatch.chdir(alone.parent)
    assert main(["verify", "small"]) == 0
    assert "model.safetensors is not in this folder" in capsys.readouterr().out
    spoiled = next(alone.glob("*f16.gguf"))
    data = bytearray(spoiled.read_bytes())
    data[-100] ^= 1
    spoiled.write_bytes(data)
    assert main(["verify", "small"]) == 10
    assert f"{spoiled.name}: has other bytes" in capsys.readouterr().err


def test_plain_transformers_reads_the_file_and_agrees_with_what_was_scored(
    trained: tuple[Path, Path],
) -> None:
    project, published = trained
    file = next(published.glob("*f16.gguf")).name
    ids = AutoTokenizer.from_pretrained(published)("The value of iron12", return_tensors="pt")
    scored = AutoModelForCausalLM.from_pretrained(project / "output", dtype=torch.float32)
    read = AutoModelForCausalLM.from_pretrained(published, gguf_file=file, dtype=torch.float32)
    with torch.no_grad():
        torch.testing.assert_close(read(**ids).logits, scored(**ids).logits, atol=5e-3, rtol=0.0)


def test_the_same_run_goes_to_a_hub_without_making_anything_again(
    trained: tuple[Path, Path],
    hub_emulator: HubEmulator,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Captured,
) -> None:
    project, _ = trained
    exports = Tiers.of(project).store.names("export")
    monkeypatch.setenv("HF_TOKEN", hub_emulator.add_token("hf_" + "walked" * 5))
    words = ["--repo", "tester/small", "--hub", hub_emulator.url, "--quantization", "q8_0"]
    assert main(["publish", *words, "-q"]) == 0
    root = capsys.readouterr().out.split("root digest ")[1].split()[0]
    assert Tiers.of(project).store.names("export") == exports
    downloaded = project / "downloaded"
    for name, data in hub_emulator.files("tester/small").items():
        (downloaded / name).parent.mkdir(parents=True, exist_ok=True)
        (downloaded / name).write_bytes(data)
    assert [path.name for path in downloaded.glob("Modelfile*")] == ["Modelfile"]
    assert main(["verify", str(downloaded), "--expect", root]) == 0
