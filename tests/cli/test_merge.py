from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from nexa.cli.main import main
from nexa.cli.merge import merge
from nexa.cli.publish import command_line
from nexa.weights.merge_models.methods import METHODS
from tests.support.foreign import full_model, peft_adapter
from tests.support.project import Finished

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def here(tmp_path: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two models and two adapters of the tiny one."""
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("a", "b")):
        full_model(tmp_path / name, tiny_llama, seed=seed)
        peft_adapter(tmp_path / f"adapter-{name}", tiny_llama, seed=seed)
    return tmp_path


def test_the_methods_of_the_command_line_are_those_there_are() -> None:
    from nexa.cli.merge import METHODS as shown

    assert set(shown) == set(METHODS)


def test_two_models_are_merged_and_how_to_compare_them_is_told(
    here: Path, capsys: Captured
) -> None:
    words = ["merge", "a", "b", "--method", "linear", "--weights", "0.5,0.5", "-o", "child"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "  record  export/child@v1\n" in out
    assert "  beside its parents: nexa eval export/child@v1 --parents --data HELD_OUT_ROWS" in out
    assert main([*words, "--json", "-q"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["reused"]
    assert told["body"]["recipe"]["method"] == "linear"


def test_adapters_become_an_adapter(here: Path, capsys: Captured) -> None:
    words = ["merge", "adapter-a", "adapter-b", "--method", "ties", "--density", "0.5"]
    assert main([*words, "--rank", "2", "-o", "both"]) == 0
    out, err = capsys.readouterr()
    assert "  record  adopted/both@v1\n" in out
    assert "nexa eval" not in out
    assert "all of them are adapters" in err
    assert main(["lineage", "adopted/both"]) == 0
    assert "parent2: adopted/adapter-b@v1" in capsys.readouterr().out
    assert main(["verify", "adopted/both"]) == 0
    assert main(["merge", "both", "-o", "whole", "-q"]) == 0
    assert "  record  export/both@v1\n" in capsys.readouterr().out


def test_a_run_s_adapter_in_its_base(project: Finished, capsys: Captured) -> None:
    assert main(["merge", "latest", "-o", "merged", "-q"]) == 0
    assert "export/tiny-llama-elements@v1, made before" in capsys.readouterr().out


def test_a_dry_run_prints_the_plan(here: Path, capsys: Captured) -> None:
    template = here / "b" / "chat_template.jinja"
    template.write_text(template.read_text() + "{# of its own #}")
    assert main(["merge", "a", "b", "--method", "slerp", "-o", "out", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("models, bfloat16: a, b\n")
    assert "slerp   20" in out
    assert "  note  the child has the chat template of a, which is not that of b" in out
    assert main(["merge", "a", "b", "--method", "slerp", "-o", "o", "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["methods"] == {"slerp": 20}
    assert main(["merge", "adapter-a", "-o", "out", "--dry-run"]) == 0
    assert "steps  merge" in capsys.readouterr().out
    many = ["adapter-a", "adapter-b", "--method", "linear"]
    assert main(["merge", *many, "-o", "out", "--dry-run"]) == 0
    assert capsys.readouterr().out.startswith("adapters: adapter-a, adapter-b\nNothing")
    assert not (here / "out").exists()


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        ([], 2, "Missing argument 'MODEL...|RECIPE.yaml'"),
        (["a"], 2, "there is nothing to merge"),
        (["a", "b"], 2, "--method linear|task_arithmetic"),
        (["a", "b", "--method", "tie"], 2, "'tie' is not one of"),
        (["a", "b", "--method", "ties"], 2, "ties needs the base"),
        (["a", "b", "--method", "slerp", "--density", "0.5"], 2, "slerp has no density"),
        (["a", "b", "--method", "linear", "--weights", "x"], 2, "'x' is not a list of numbers"),
        (["a", "b", "--method", "linear", "--weights", "1,2,3"], 2, "one number for each of 2"),
        (["a", "gone", "--method", "linear"], 5, "there is no model 'gone'"),
        (["recipe.yaml"], 3, "recipe.yaml"),
        (["adapter-a", "--base-model", "gone"], 5, "there is no model 'gone'"),
    ],
)
def test_bad_words_end_with_their_code_and_a_line(
    here: Path, capsys: Captured, words: list[str], code: int, complaint: str
) -> None:
    (here / "recipe.yaml").write_text("merge_method: ties\nmodel: a\n")
    assert main(["merge", *words, "-o", "out", "-q"]) == code
    assert complaint in capsys.readouterr().err


def test_the_command_that_is_kept_can_be_run_again() -> None:
    words = ["./a", "./b", "--method", "ties", "--weights", "0.5,0.25", "--no-normalize"]
    words += ["--output", "my merge"]
    with merge.make_context("merge", list(words)) as context:
        told = shlex.split(command_line(context))
    assert told[:2] == ["nexa", "merge"]
    with merge.make_context("merge", told[2:]) as again, merge.make_context("merge", words) as once:
        assert again.params == once.params
