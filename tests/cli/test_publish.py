from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from nexa.cli.main import main
from tests.support.project import Finished, write_config

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def published(project: Finished, capsys: Captured) -> Path:
    assert main(["publish", "--repo", "you/elements", "-q"]) == 0
    capsys.readouterr()
    return project.root / ".nexa" / "hub" / "you" / "elements"


# -- publish -------------------------------------------------------------------------------------


def test_it_prints_where_it_is_and_how_to_check_it(project: Finished, capsys: Captured) -> None:
    assert main(["publish", "--repo", "you/elements", "--hub", "local", "./output"]) == 0
    folder = project.root / ".nexa" / "hub" / "you" / "elements"
    first, root, check = capsys.readouterr().out.splitlines()
    assert first == f"Published: {folder}"
    digest = root.split()[-1]
    assert digest in (folder / "nexa" / "ROOT").read_text()
    words = check.split("nexa ")[1].split()
    assert words == ["verify", str(folder), "--expect", digest[:16]]
    assert main(words) == 0


def test_push_is_publish_and_with_json_it_prints_the_record(
    project: Finished, capsys: Captured
) -> None:
    assert main(["push", "--repo", "you/elements", "--json", "-q"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["repo"] == "you/elements"
    assert Path(record["location"]).is_dir()


def test_the_config_s_publish_section_is_enough(
    project: Finished, tiny_llama: Path, capsys: Captured
) -> None:
    publish = {"repo": "me/mine", "hub": "./hub", "model_card": False}
    write_config(project.root, tiny_llama, publish=publish)
    assert main(["publish"]) == 0
    folder = project.root / "hub" / "me" / "mine"
    assert f"Published: {folder}\n" in capsys.readouterr().out
    assert not (folder / "README.md").exists()
    assert main(["publish", "--model-card", "--repo", "me/other"]) == 0
    assert (project.root / "hub" / "me" / "other" / "README.md").exists()


def test_choices_reach_the_publication(project: Finished, capsys: Captured) -> None:
    words = ["--private", "--no-merge-adapters", "--licence", "mit", "--hub", "hub"]
    assert main(["publish", "--repo", "me/mine", *words]) == 0
    assert "no private repositories" in capsys.readouterr().err
    folder = project.root / "hub" / "me" / "mine"
    assert not (folder / "model.safetensors").exists()
    assert 'license: "mit"' in (folder / "README.md").read_text()


def test_twice_says_that_there_is_nothing_to_do(published: Path, capsys: Captured) -> None:
    assert main(["publish", "--repo", "you/elements"]) == 0
    out, err = capsys.readouterr()
    assert "already published, nothing to do" in err
    assert f"Published: {published}\n" in out


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        ([], 2, "--repo OWNER/NAME, or a publish section in config.yaml"),
        (["--repo", "no-owner"], 2, "--repo: should be owner/name"),
        (["--repo", "a/b", "--hub", "https://huggingface.co"], 2, "--hub local"),
        (["--repo", "a/b", "--allow", "everything"], 2, "no evidence, worse, contaminated"),
        (["--repo", "a/b", "nowhere"], 10, "it has no final_model.json"),
        (["--rope", "a/b"], 2, "nexa publish --help"),
    ],
)
def test_bad_words_end_with_their_code_and_a_line(
    project: Finished, capsys: Captured, words: list[str], code: int, complaint: str
) -> None:
    assert main(["publish", *words, "-q"]) == code
    assert complaint in capsys.readouterr().err


def test_an_edited_model_is_refused_by_name(project: Finished, capsys: Captured) -> None:
    with (project.root / "output" / "model.safetensors").open("ab") as file:
        file.write(b"\0")
    assert main(["publish", "--repo", "you/elements"]) == 9
    told = capsys.readouterr().err
    assert "was changed after it was evaluated" in told
    assert "found  model.safetensors" in told


# -- verify --------------------------------------------------------------------------------------


def test_a_published_folder_is_whole_wherever_it_is(
    published: Path, tmp_path: Path, capsys: Captured
) -> None:
    shutil.copytree(published, tmp_path / "downloaded")
    assert main(["verify", str(tmp_path / "downloaded")]) == 0
    out = capsys.readouterr().out
    assert "  ok  files\n" in out
    assert "  ok  model card\n" in out
    assert "This proves integrity, not who published it." in out


def test_with_json_the_checks_are_names(published: Path, capsys: Captured) -> None:
    assert main(["verify", str(published), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["folder"] == str(published)
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
