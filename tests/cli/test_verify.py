from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from nexa.cli.main import main
from tests.support.project import Finished

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def published(project: Finished, capsys: Captured) -> Path:
    assert main(["publish", "--repo", "you/elements", "--hub", "local", "-q"]) == 0
    capsys.readouterr()
    return project.root / ".nexa" / "hub" / "you" / "elements"


def test_a_published_folder_is_whole_wherever_it_is(
    published: Path, tmp_path: Path, capsys: Captured
) -> None:
    shutil.copytree(published, tmp_path / "downloaded")
    assert main(["verify", str(tmp_path / "downloaded")]) == 0
    out = capsys.readouterr().out
    assert "  ok  files\n" in out
    assert "  ok  model card\n" in out
    assert "This proves integrity, not who made it." in out


def test_with_json_the_checks_are_names(published: Path, capsys: Captured) -> None:
    assert main(["verify", str(published), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["subject"] == str(published)
    assert {"root", "files", "scores", "report", "model card"} <= set(told["checks"])


def test_a_changed_file_is_named(published: Path, capsys: Captured) -> None:
    path = published / "tokenizer.json"
    path.write_bytes(path.read_bytes().replace(b"iron", b"lead", 1) + b" ")
    assert main(["verify", str(published)]) == 10
    assert "tokenizer.json" in capsys.readouterr().err


def test_another_root_is_not_the_one_that_was_expected(published: Path, capsys: Captured) -> None:
    assert main(["verify", str(published), "--expect", "0" * 16]) == 10
    assert "expected 0000000000000000" in capsys.readouterr().err


def test_a_folder_that_was_not_published_is_refused(tmp_path: Path, capsys: Captured) -> None:
    assert main(["verify", str(tmp_path)]) == 10
    assert "is not a folder that nexa published" in capsys.readouterr().err


def test_without_a_word_everything_here_is_verified(project: Finished, capsys: Captured) -> None:
    assert main(["verify"]) == 0
    out = capsys.readouterr().out
    assert "  ok  store\n" in out
    assert "files in the store\n" in out
    assert "everything here: nothing was changed since it was made." in out


def test_a_flipped_byte_of_a_run_is_named_in_json_too(project: Finished, capsys: Captured) -> None:
    path = project.root / "runs" / "manifests" / f"{project.manifest.run_id}.json"
    path.write_bytes(path.read_bytes().replace(b"done", b"donf", 1))
    assert main(["verify", "latest", "--json"]) == 10
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["type"] == "IntegrityError"
    assert str(path) in error["found"]
