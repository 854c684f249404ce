from __future__ import annotations

import json
from pathlib import Path

import pytest

from nexa.cli.data import ON_REQUEST
from nexa.cli.main import main
from nexa.core.manifest import find_manifest
from nexa.core.tiers import Tiers
from nexa.data.filters.registry import described
from tests.faults.test_fuzzed_files import WRITERS, question_answers
from tests.support.project import Finished, rows, write_project, write_rows

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def here(tmp_path: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project that nothing was made in yet, as the current folder."""
    folder = tmp_path / "elements"
    write_project(folder, tiny_llama)
    monkeypatch.chdir(folder)
    return folder


# -- prepare -------------------------------------------------------------------------------------


def test_prepared_rows_are_counted_kept_and_dropped(here: Path, capsys: Captured) -> None:
    write_rows(here / "train.jsonl", [*rows(range(40)), *rows(range(2))])
    assert main(["data", "prepare"]) == 0
    out = capsys.readouterr().out
    told = dict(line.strip().split("  ", 1) for line in out.splitlines() if "  " in line.strip())
    assert out.startswith("dataset/elements@v1\n")
    assert told["rows read"].strip() == "42"
    assert told["split train"].strip() == "40 rows"
    assert [name for name in told if name.startswith("dropped")] == ["dropped, exact duplicate"]
    assert "p50 " in told["tokens a row"]
    assert int(told["max_length"]) > 0
    assert (here / "dataset_registry.yaml").exists()


def test_preparing_is_a_run_of_its_own(here: Path, capsys: Captured) -> None:
    assert main(["data", "prepare", "config.yaml", "--json", "-q"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["dataset_id"] == "elements"
    assert told["splits"]["train"]["rows"] == 40
    manifest = find_manifest(Tiers.of(here).manifests, "latest")
    assert (manifest.run_type, manifest.eval_status) == ("data_gen", "skipped")


@pytest.mark.parametrize(
    ("line", "code", "complaint"),
    [
        ('{"question": "?", "reply": "!"}', 14, "no row has a shape that can be trained on"),
        ("", 4, "train.jsonl"),
    ],
)
def test_rows_that_cannot_be_trained_on_are_refused(
    here: Path, capsys: Captured, line: str, code: int, complaint: str
) -> None:
    (here / "train.jsonl").write_text(line)
    assert main(["data", "prepare", "-q"]) == code
    assert complaint in capsys.readouterr().err
    assert find_manifest(Tiers.of(here).manifests, "latest").status == "failed"


# -- mask ----------------------------------------------------------------------------------------


def test_what_is_trained_stands_in_brackets(here: Path, tiny_llama: Path, capsys: Captured) -> None:
    words = ["data", "mask", "train.jsonl", "--model", str(tiny_llama), "--rows", "2"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert '[{"name": "iron0", "value": 100}<|im_end|>]\n' in out
    assert "<|im_start|>user\nThe value of iron0 is 100 units." in out
    assert out.count(" tokens trained\n") == 2
    assert out.startswith("train.jsonl:1: ")


def test_masks_as_json_add_up_to_the_rows(here: Path, tiny_llama: Path, capsys: Captured) -> None:
    assert main(["data", "mask", "eval.jsonl", "--model", str(tiny_llama), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [row["origin"] for row in shown] == [f"eval.jsonl:{line}" for line in (1, 2, 3)]
    for row in shown:
        assert [trained for _, trained, _ in row["spans"]] == [False, True, False]
        assert "".join(text for text, _, _ in row["spans"]).startswith("<|im_start|>user")


def test_a_row_that_cannot_be_read_says_why(here: Path, tiny_llama: Path, capsys: Captured) -> None:
    good = json.dumps(rows([1])[0])
    (here / "mixed.jsonl").write_text(good + "\nnot json\n")
    assert main(["data", "mask", "mixed.jsonl", "--model", str(tiny_llama)]) == 0
    out = capsys.readouterr().out
    assert "mixed.jsonl:2: 0 of 0 tokens trained\n  line 2: " in out


@pytest.mark.parametrize("kind", WRITERS)
def test_every_format_is_shown_and_set_up(
    here: Path, tiny_llama: Path, capsys: Captured, kind: str
) -> None:
    (here / f"rows.{kind}").write_bytes(WRITERS[kind](question_answers(12)))
    words = ["data", "mask", f"rows.{kind}", "--model", str(tiny_llama), "--rows", "1", "--json"]
    assert main(words) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert any("It is 0 ä" in text and trained for text, trained, _ in row["spans"])
    if kind in ("txt", "md"):
        return  # a dozen lines are too few pieces to set some aside
    command = ["init", "--base", str(tiny_llama), "--data", f"rows.{kind}", "--output", "other"]
    assert main([*command, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["data"]["format"] == "question-answer"
    assert told["data"]["rows"] == 12


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        (["train.jsonl"], 2, "Missing option '--model'"),
        (["train.jsonl", "--model", "m", "--rows", "0"], 2, "0 is not in the range x>=1"),
        (["train.jsonl", "--model", "no-such"], 5, "there is no model 'no-such'"),
        (["trian.jsonl", "--model", "{model}"], 4, "train.jsonl"),
    ],
)
def test_bad_words_end_with_their_code_and_a_line(
    here: Path,
    tiny_llama: Path,
    capsys: Captured,
    words: list[str],
    code: int,
    complaint: str,
) -> None:
    given = [word.format(model=tiny_llama) for word in words]
    assert main(["data", "mask", *given]) == code
    assert complaint in capsys.readouterr().err


# -- list ----------------------------------------------------------------------------------------


def test_datasets_are_listed(project: Finished, capsys: Captured) -> None:
    assert main(["data", "list"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    digest = str(project.manifest.dataset_hash)[:12]
    assert ["dataset/elements@v1", "40", "40", "-", digest] in lines
    assert main(["data", "list", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {record["name"] for record in told} == {"elements", "elements-eval"}


def test_without_datasets_it_says_so(here: Path, capsys: Captured) -> None:
    assert main(["data", "list"]) == 0
    assert capsys.readouterr().out == "no datasets yet\n"


# -- merge ---------------------------------------------------------------------------------------


def test_merged_rows_are_a_new_version(project: Finished, capsys: Captured) -> None:
    write_rows(project.root / "new.jsonl", rows(range(300, 304)))
    assert main(["data", "merge", "elements", "new.jsonl"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("dataset/elements@v2\n")
    assert [line.split() for line in out.splitlines()[1:]] == [
        ["made", "from", "dataset/elements@v1"],
        ["added", "to", "train", "4", "rows"],
    ]
    assert main(["data", "merge", "elements", "new.jsonl", "-q"]) == 0
    assert "nothing new: exact duplicate 4" in capsys.readouterr().out
    assert main(["data", "merge", "elements", "new.jsonl", "--json", "-q"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["dataset"], told["parent"]) == ("dataset/elements@v2", "dataset/elements@v2")
    assert (told["added"], told["why"]) == ({"train": 0}, "exact duplicate 4")


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        (["elements"], 2, "Missing argument 'FILE...'"),
        (["elements", "new.jsonl"], 4, "there is no"),
        (["elements", "eval.jsonl", "--config", "no.yaml"], 3, "there is no no.yaml"),
        (["metals", "eval.jsonl"], 1, "there is no dataset named 'metals'"),
    ],
)
def test_a_merge_of_what_is_not_there_says_so(
    project: Finished, capsys: Captured, words: list[str], code: int, complaint: str
) -> None:
    assert main(["data", "merge", *words]) == code
    assert complaint in capsys.readouterr().err


def test_data_is_prepared_without_a_config_when_a_model_is_named(
    here: Path, tiny_llama: Path, capsys: Captured
) -> None:
    (here / "config.yaml").unlink()
    assert main(["data", "prepare", "train.jsonl", "--model", str(tiny_llama), "--json", "-q"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert set(body["splits"]) == {"train", "eval"}
    words = ["data", "prepare", "train.jsonl", "--model", str(tiny_llama), "--eval", "eval.jsonl"]
    assert main([*words, "--json", "-q"]) == 0
    assert set(json.loads(capsys.readouterr().out)["splits"]) == {"train"}
    assert (here / "dataset_registry.yaml").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["train.jsonl"], "needs a model whose tokens are counted"),
        (["config.yaml", "--eval", "eval.jsonl"], "go with --model"),
        (["config.yaml", "--filter", "pii"], "go with --model"),
    ],
)
def test_data_without_a_model_is_told_what_is_missing(
    here: Path, words: list[str], told: str, capsys: Captured
) -> None:
    assert main(["data", "prepare", *words]) == 2
    assert told in capsys.readouterr().err


def test_filters_are_asked_for_by_name_when_a_model_is_named(
    here: Path, tiny_llama: Path, capsys: Captured
) -> None:
    line = {"prompt": "Who made sample seven of the alloy?", "completion": "jane@kingsmead.edu"}
    with (here / "mail.jsonl").open("w") as file:
        for number in range(30):
            file.write(json.dumps({**line, "prompt": f"{line['prompt']} {number}"}) + "\n")
    words = ["data", "prepare", "mail.jsonl", "--model", str(tiny_llama), "--json", "-q"]
    assert main([*words, "--filter", "pii", "--filter", "secrets"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert body["mended"] == {"personal data redacted (email)": 30}
    assert main([*words, "--filter", "pi"]) == 3
    assert json.loads(capsys.readouterr().out)["error"]["found"] == (
        "pi: is not a filter: did you mean 'pii'?"
    )


def test_the_help_names_every_filter_that_can_be_asked_for_without_options() -> None:
    unasked = [
        entry.name
        for entry in described()
        if not entry.default and "needed" not in [default for _, default, _ in entry.options]
    ]
    assert sorted(ON_REQUEST) == sorted(unasked)
