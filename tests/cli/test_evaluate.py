from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from nexa.cli.format import clean
from nexa.cli.main import main
from tests.eval.harnessed import write_tasks
from tests.support.project import Finished, rows, write_rows
from tests.support.scripted_endpoint import Fault, Script, ScriptedEndpoint
from tests.support.teacher import answered

Captured = pytest.CaptureFixture[str]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


# -- eval ----------------------------------------------------------------------------------------


def test_a_model_s_scores_are_a_table_with_a_column_a_domain(
    project: Finished, capsys: Captured
) -> None:
    assert main(["eval", "checkpoint/tiny-llama-elements@v1"]) == 0
    out, err = capsys.readouterr()
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == ["export/tiny-llama-elements:", "scores/tiny-llama-elements-tuned@v1"]
    assert lines[1] == ["metric", "all", "gases", "metals"]
    assert lines[2][0] == "exact"
    assert "stops by itself" in out
    assert "nats a token" in out
    assert "reused answers/tiny-llama-elements-tuned@v1" in err


def test_scores_as_json(project: Finished, tiny_llama: Path, capsys: Captured) -> None:
    write_rows(project.root / "more.jsonl", rows(range(200, 204)))
    words = ["--data", "more.jsonl", "--rows", "3", "--max-new-tokens", "5"]
    assert main(["eval", str(tiny_llama), *words, "--json", "-q"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["metrics"]["exact"]["n"] == 3
    assert told["model"]["name"] == "tiny-llama"


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        ([], 2, "Missing argument 'MODEL...'"),
        (["no-such-model"], 5, "there is no model 'no-such-model'"),
        (["checkpoint/tiny-lama"], 1, "there is no checkpoint named 'tiny-lama'"),
        (["1999-01-01"], 2, "there is no run 1999-01-01"),
        (["latest", "--suite", "element"], 1, "suite/elements"),
        (["latest", "--data", "no.jsonl"], 4, "no.jsonl"),
        (["latest", "--rows", "3"], 2, "--data FILE"),
        (["latest", "--data", "eval.jsonl", "--rows", "0"], 2, "0 is not in the range"),
        (["latest", "--data", "eval.jsonl", "--suite", "elements"], 2, "leave one out"),
        (["latest", "--base-source", "wheel"], 5, "for aliases with several sources"),
        (["latest", "--engine", "vllm"], 2, "'vllm' is not one of"),
        (["latest", "--engine", "llama.cpp"], 5, "llama.cpp runs GGUF files, and"),
        (["latest", "latest", "--parents"], 2, "those of one model"),
    ],
)
def test_bad_words_end_with_their_code_and_a_line(
    project: Finished, capsys: Captured, words: list[str], code: int, complaint: str
) -> None:
    assert main(["eval", *words, "-q"]) == code
    assert complaint in capsys.readouterr().err


def test_with_nothing_to_ask_the_ways_out_are_named(
    tmp_path: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["eval", str(tiny_llama)]) == 2
    assert "--data FILE, --suite NAME, or a config.yaml here" in capsys.readouterr().err


def test_several_models_are_one_table_with_what_each_has_more_than_the_first(
    project: Finished, tiny_llama: Path, capsys: Captured
) -> None:
    assert main(["eval", str(tiny_llama), "latest", "-q"]) == 0
    heading, *lines = capsys.readouterr().out.splitlines()
    assert heading.split("  ")[0] == "model"
    assert heading.endswith("minus tiny-llama")
    metrics = len(lines) // 2
    assert {line.split()[0] for line in lines[:metrics]} == {"tiny-llama"}
    assert {line.split()[0] for line in lines[metrics:]} == {"export/tiny-llama-elements"}
    assert lines[0].endswith("  -")
    assert "+0." in lines[metrics]
    assert "cross-entropy, general text" in lines[-2]
    assert "safety score" in lines[-1]


def test_several_models_are_a_list_in_json(
    project: Finished, tiny_llama: Path, capsys: Captured
) -> None:
    assert main(["eval", "latest", "--parents", "--json", "-q"]) == 0
    tuned, base = json.loads(capsys.readouterr().out)
    assert (tuned["model"]["name"], base["model"]["name"]) == (
        "export/tiny-llama-elements",
        "tiny-llama",
    )
    report = project.tiers.store.by_digest(project.manifest.outputs["report"]).body
    assert tuned["minus_first"] is None
    assert [c["difference"]["mean"] for c in base["minus_first"]] == [
        -c.difference.mean for c in report.comparisons
    ]
    assert main(["eval", "latest", "--json", "-q"]) == 0
    assert "minus_first" not in json.loads(capsys.readouterr().out)


# -- compare -------------------------------------------------------------------------------------


def test_two_models_side_by_side(project: Finished, tiny_llama: Path, capsys: Captured) -> None:
    assert main(["compare", str(tiny_llama), "latest", "-q"]) == 0
    heading, first, *_ = capsys.readouterr().out.splitlines()
    assert heading.split("  ")[0] == "metric"
    assert "B minus A" in heading
    assert first.startswith("exact  ")
    assert main(["compare", str(tiny_llama), "latest", "--json", "-q"]) == 0
    told = json.loads(capsys.readouterr().out)
    report = project.tiers.store.by_digest(project.manifest.outputs["report"]).body
    assert told == [c.model_dump(mode="json") for c in report.comparisons]


# -- models of an API ----------------------------------------------------------------------------


def test_a_teacher_s_scores_tell_latency_cost_and_safety(
    project: Finished, capsys: Captured
) -> None:
    with ScriptedEndpoint(Script(function=answered)) as served:
        words = ["--suite", "elements", "--base-url", served.url, "--price", "1,2"]
        assert main(["eval", "wise", *words, "-q"]) == 0
    out = capsys.readouterr().out
    assert "wise: scores/wise-elements@v1" in out
    assert "nats a token" not in out
    assert "latency of a prompt: median " in out
    assert "USD a prompt" in out
    assert "(--price)" in out
    assert "red flags" in out


def test_scores_that_were_sealed_before_anything_was_measured_are_told(
    project: Finished, capsys: Captured
) -> None:
    from nexa.cli.evaluate import _also

    body = project.tiers.store.by_digest(project.manifest.outputs["tuned_scores"]).body
    assert len(_also(body)) == len(_also(body.model_copy(update={"spent": None}))) + 1


def test_missing_scores_are_told_with_their_bounds(project: Finished, capsys: Captured) -> None:
    fault = Fault(do="status", status=400, when="argon")
    with ScriptedEndpoint(Script(function=answered, faults=(fault,))) as served:
        write_rows(project.root / "more.jsonl", rows(range(200, 206)))
        words = ["--data", "more.jsonl", "--concurrency", "1", "-q"]
        assert main(["eval", f"wise@{served.url}", *words]) == 0
        out = capsys.readouterr().out
        assert "rows without a score; with them between" in out
        assert "price unknown" in out
        assert main(["eval", "latest", f"wise@{served.url}", *words]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert len([line for line in lines if "cross-entropy, general text" in line]) == 1
        assert main(["compare", "latest", f"wise@{served.url}", *words]) == 0
    out = capsys.readouterr().out
    assert "adjusted p" in out
    assert "0 rows of A and" in out


def test_a_dry_run_tells_what_it_would_cost(project: Finished, capsys: Captured) -> None:
    words = ["eval", "scripted:table.json", "--suite", "elements", "--dry-run", "-q"]
    (project.root / "table.json").write_text('{"*": "no"}')
    assert main(words) == 0
    assert "Nothing was sent" in capsys.readouterr().out
    assert main([*words, "--json"]) == 0
    [told] = json.loads(capsys.readouterr().out)
    assert told["usd"] == 0


def test_how_a_file_is_scored_can_be_said(
    project: Finished, tiny_llama: Path, capsys: Captured
) -> None:
    write_rows(project.root / "more.jsonl", rows(range(200, 203)))
    words = ["--data", "more.jsonl", "--task", "text", "--metrics", "exact_match"]
    assert main(["eval", str(tiny_llama), *words, "--max-new-tokens", "4", "--json", "-q"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert set(told["metrics"]) == {"token_f1", "exact_match"}


# -- the lm-evaluation-harness -------------------------------------------------------------------


def test_tasks_of_lm_eval_are_told_like_any_other(
    tmp_path: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.chdir(tmp_path)
    write_tasks(tmp_path / "tasks")
    words = ["--tasks-path", "tasks", "--limit", "2", "--dtype", "float32", "-q"]
    assert main(["eval", str(tiny_llama), "--harness", "toy_text", *words]) == 0
    out = capsys.readouterr().out
    assert "exact_match" in out
    assert "chrf" in out
    assert main(["eval", str(tiny_llama), "--harness", "toy_choice", *words]) == 0
    assert "red flags" not in capsys.readouterr().out
    tasks = "toy_choice,toy_rolling"
    assert main(["eval", str(tiny_llama), "--harness", tasks, *words, "--num-fewshot", "0"]) == 0
    out = capsys.readouterr().out
    assert "acc_norm" in out
    assert "bits_per_byte" in out


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["latest", "--limit", "3"], "--limit belongs to --harness TASK"),
        (["latest", "--apply-chat-template"], "--apply-chat-template belongs to --harness"),
        (["latest", "--harness", "x", "--parents"], "has no meaning with --harness"),
        (["latest", "--harness", "x", "--rows", "3"], "--rows has no meaning with --harness"),
        (["latest", "--harness", ","], "--harness names no task"),
        (["latest", "--budget-usd", "3"], "for models of an API, and none is named"),
        (["latest", "--dry-run"], "what models of an API cost"),
        (["latest", "--price", "cheap", "--suite", "elements"], "is not two numbers"),
    ],
)
def test_words_for_another_kind_of_evaluation_are_refused(
    project: Finished, capsys: Captured, words: list[str], complaint: str
) -> None:
    assert main(["eval", *words, "-q"]) == 2
    assert complaint in capsys.readouterr().err.replace("\n", " ")


# -- chat ----------------------------------------------------------------------------------------


def talk(monkeypatch: pytest.MonkeyPatch, said: io.StringIO, *words: str) -> int:
    monkeypatch.setattr(sys, "stdin", said)
    return main(["chat", *words, "--max-new-tokens", "6"])


def test_a_pipe_is_answered_line_by_line_until_it_ends(
    project: Finished, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    assert talk(monkeypatch, io.StringIO("The value of iron12?\nAnd zinc?\n"), "latest") == 0
    piped = capsys.readouterr().out
    assert "you: " not in piped
    told = answers(monkeypatch, capsys, "The value of iron12?\nAnd zinc?\n", "latest")
    assert [turn["role"] for turn in told] == ["user", "assistant"] * 2
    shown = "".join(f"{turn['content']}\n" for turn in told if turn["role"] == "assistant")
    assert piped == clean(shown)


def test_on_a_terminal_the_user_is_asked_and_an_empty_line_ends_it(
    project: Finished, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    assert talk(monkeypatch, Terminal("Hello\n\nnever read\n"), str(tiny_llama)) == 0
    out = capsys.readouterr().out
    assert out.startswith("you: ")
    assert out.count("you: ") == 2


def test_a_system_message_comes_first(
    project: Finished, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    told = answers(monkeypatch, capsys, "Hello\n", str(tiny_llama), "--system", "Be brief.")
    assert told[0] == {"role": "system", "content": "Be brief."}


def test_the_engine_may_be_chosen(
    project: Finished, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    assert answers(monkeypatch, capsys, "Hello\n", str(tiny_llama), "--engine", "transformers")
    assert talk(monkeypatch, io.StringIO(""), str(tiny_llama), "--engine", "llama.cpp") == 5
    assert "llama.cpp runs GGUF files, and tiny-llama is none" in capsys.readouterr().err


def test_an_unknown_model_ends_with_its_code(
    project: Finished, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    assert talk(monkeypatch, io.StringIO(""), "smolm2-135m") == 5
    assert "the nearest alias is smollm2-135m" in capsys.readouterr().err


def answers(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured, said: str, *words: str
) -> list[dict[str, Any]]:
    assert talk(monkeypatch, io.StringIO(said), *words, "--json", "-q") == 0
    told: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return told
