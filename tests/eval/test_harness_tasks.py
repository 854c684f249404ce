from __future__ import annotations

import os
import random
import sys
from pathlib import Path

import pytest

from nexa.core.errors import EvalError, MissingExtra
from nexa.eval.harness_tasks import (
    INSTALL,
    NO_POOL,
    inside,
    longest_answer,
    metrics_of,
    questions_of,
)
from tests.eval.harnessed import CHOICE, DOCS, MEAN, TEXT, Tasks, write_task, write_tasks


@pytest.fixture
def tasks(tmp_path: Path) -> Tasks:
    return Tasks(write_tasks(tmp_path / "tasks"), tmp_path / "cache")


def test_choices_are_questions_whose_target_is_the_right_one(tasks: Tasks) -> None:
    loaded = tasks.load("toy_choice")
    rows = questions_of(loaded)
    assert [row["id"] for row in rows] == [f"toy_choice/{n}" for n in range(5)]
    assert rows[1]["messages"] == [
        {"role": "user", "content": "Question: What is sample 1?\nAnswer:"}
    ]
    assert [row["target"] for row in rows[:3]] == ["iron", "a copper pan", "pure gold"]
    assert {row["domain"] for row in rows} == {None}
    assert metrics_of(loaded) == ["acc", "acc_norm"]
    assert longest_answer(loaded) == 0


def test_answers_are_cut_where_the_task_says_by_any_of_its_names(tasks: Tasks) -> None:
    assert longest_answer(tasks.load("toy_text")) == 12
    assert longest_answer(tasks.load("toy_filtered")) == 6
    write_task(tasks.folder, "toy_text", TEXT.replace("  max_gen_toks: 12\n", ""))
    assert longest_answer(tasks.load("toy_text")) == 256


def test_a_metric_of_filtered_answers_names_its_filter(tasks: Tasks) -> None:
    assert metrics_of(tasks.load("toy_filtered")) == ["exact_match,first", "exact_match,number"]
    assert metrics_of(tasks.load("toy_text")) == ["exact_match"]
    assert metrics_of(tasks.load("toy_rolling")) == ["byte_probability"]


def test_a_group_is_one_suite_whose_tasks_are_its_domains(tasks: Tasks) -> None:
    loaded = tasks.load("toy_group")
    rows = questions_of(loaded)
    assert {row["domain"] for row in rows} == {"toy_choice", "toy_last_word"}
    assert len(rows) == 10
    assert metrics_of(loaded) == ["acc", "acc_norm"]


def test_examples_are_put_before_the_question_and_are_the_same_each_time(tasks: Tasks) -> None:
    loaded = tasks.load("toy_text", num_fewshot=2, limit=3)
    first, again = questions_of(loaded), questions_of(loaded)
    assert first == again
    assert len(first) == 3
    assert first[0]["messages"][0]["content"].count("Question:") == 3
    assert loaded.identity["num_fewshot"] == 2
    assert tasks.load("toy_text", num_fewshot=2, limit=3).identity == loaded.identity
    assert tasks.load("toy_text", num_fewshot=1, limit=3).identity != loaded.identity


def test_a_task_that_says_0_examples_is_left_at_0(tasks: Tasks) -> None:
    write_task(tasks.folder, "toy_text", TEXT + "num_fewshot: 0\n")
    rows = questions_of(tasks.load("toy_text", num_fewshot=2))
    assert rows[0]["messages"][0]["content"].count("Question:") == 1


def test_the_identity_is_the_configuration_and_the_data_and_not_where_they_lie(
    tmp_path: Path,
) -> None:
    here = Tasks(write_tasks(tmp_path / "here"), tmp_path / "cache").load("toy_choice").identity
    there = Tasks(write_tasks(tmp_path / "there"), tmp_path / "cache").load("toy_choice").identity
    assert here == there
    other = write_tasks(tmp_path / "other", [*DOCS[:4], {**DOCS[4], "q": "Which?"}])
    changed = Tasks(other, tmp_path / "cache").load("toy_choice").identity
    assert changed["tasks"]["toy_choice"] != here["tasks"]["toy_choice"]
    comma = write_tasks(tmp_path / "comma")
    write_task(comma, "toy_choice", CHOICE.replace("Answer:", "Answer,"))
    assert Tasks(comma, tmp_path / "cache").load("toy_choice").identity != here


def test_a_name_that_is_none_says_the_nearest(tasks: Tasks) -> None:
    with pytest.raises(EvalError, match="toy_choise") as caught:
        tasks.load("toy_choise")
    assert caught.value.found == "the nearest name is toy_choice"
    with pytest.raises(EvalError) as far:
        tasks.load("§§§§§§§§§§")
    assert far.value.found is None


def test_data_that_is_not_there_is_told(tasks: Tasks) -> None:
    (tasks.folder / "docs.jsonl").unlink()
    with pytest.raises(EvalError, match="cannot load the task toy_choice"):
        tasks.load("toy_choice")


def test_a_task_that_fails_on_its_own_data_is_told(tasks: Tasks) -> None:
    write_task(tasks.folder, "toy_choice", CHOICE.replace("doc_to_choice: choices", ""))
    with pytest.raises(EvalError, match="lm-eval cannot"):
        tasks.load("toy_choice")


def test_no_data_to_write_questions_from_is_told(tasks: Tasks) -> None:
    with pytest.raises(EvalError, match="cannot write out the questions of toy_choice"):
        tasks.load("toy_choice", limit=0)


def test_code_that_models_write_runs_only_when_told(tasks: Tasks) -> None:
    write_task(tasks.folder, "toy_text", TEXT + "unsafe_code: true\n")
    with pytest.raises(EvalError, match="runs code that the model writes"):
        tasks.load("toy_text")
    assert tasks.load("toy_text", unsafe_code=True).unsafe_code


def test_pictures_are_refused(tasks: Tasks) -> None:
    write_task(tasks.folder, "toy_text", TEXT + "doc_to_image: q\n")
    with pytest.raises(EvalError, match="pictures or sound"):
        tasks.load("toy_text")


def test_a_task_without_a_metric_that_rows_have_is_refused(tasks: Tasks) -> None:
    write_task(tasks.folder, "toy_text", TEXT.replace(MEAN.format(name="exact_match"), ""))
    with pytest.raises(EvalError, match="no metric that single rows have") as caught:
        metrics_of(tasks.load("toy_text"))
    assert caught.value.found == "chrf"


def test_targets_of_every_form_are_words(tasks: Tasks) -> None:
    write_task(tasks.folder, "toy_text", TEXT.replace("target: text", "target: choices"))
    assert questions_of(tasks.load("toy_text"))[0]["target"] == (
        '["iron","a copper pan","pure gold"]'
    )
    write_tasks(tasks.folder, [DOCS[0], {**DOCS[0], "right": -100}])
    assert questions_of(tasks.load("toy_choice"))[1]["target"] == ""


def test_functions_of_a_configuration_count_by_their_source(tasks: Tasks) -> None:
    (tasks.folder / "words.py").write_text("def ask(doc):\n    return doc['q']\n")
    write_task(
        tasks.folder,
        "toy_text",
        TEXT.replace(
            'doc_to_text: "Question: {{q}}\\nAnswer:"', "doc_to_text: !function words.ask"
        ),
    )
    loaded = tasks.load("toy_text")
    assert questions_of(loaded)[0]["messages"][0]["content"] == "What is sample 0?"


def test_without_the_extra_the_install_line_is_named(
    tasks: Tasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(MissingExtra) as caught:
        tasks.load("toy_choice")
    assert caught.value.fix == INSTALL == "pip install 'nexa-compute[eval]'"


@pytest.mark.parametrize("pool", [None, "1"])
def test_what_lm_eval_needs_is_put_back(
    tmp_path: Path, pool: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    if pool is None:
        monkeypatch.delenv(NO_POOL, raising=False)
    else:
        monkeypatch.setenv(NO_POOL, pool)
    before = datasets.config.HF_DATASETS_CACHE, random.getstate()
    bars = datasets.are_progress_bars_disabled()
    with inside(tmp_path):
        random.random()
        assert before[0] != datasets.config.HF_DATASETS_CACHE == tmp_path / "datasets"
        assert datasets.are_progress_bars_disabled()
        assert os.environ[NO_POOL] == "1"
    assert (datasets.config.HF_DATASETS_CACHE, random.getstate()) == before
    assert os.environ.get(NO_POOL) == pool
    assert datasets.are_progress_bars_disabled() is bars


def test_bars_that_nobody_wanted_stay_away(tmp_path: Path) -> None:
    import datasets

    bars = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        with inside(tmp_path):
            pass
        assert datasets.are_progress_bars_disabled()
    finally:
        if not bars:
            datasets.enable_progress_bars()
