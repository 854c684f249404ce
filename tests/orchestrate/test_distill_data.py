"""`nexa data distill` with a teacher on loopback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nexa.core.errors import BudgetSpent, ConfigError, DataError, LeakError
from nexa.core.lineage import verify, walk
from nexa.core.manifest import find_manifest
from nexa.core.tiers import Tiers
from nexa.data.registry import read
from nexa.lm.client import Price
from nexa.orchestrate.distill_data import Answers, Distilled, distill_data, preview_distill
from nexa.orchestrate.run import prepare_only
from nexa.orchestrate.teaching import Choice
from tests.support.project import Finished, rows, write_project, write_rows
from tests.support.scripted_endpoint import Script, ScriptedEndpoint
from tests.support.teacher import teach

PRICE = Price(1.0, 2.0, source="a test")


@pytest.fixture
def endpoint() -> Iterator[ScriptedEndpoint]:
    with ScriptedEndpoint(Script(function=teach)) as served:
        yield served


@pytest.fixture
def here(tmp_path: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project that nothing was made in yet, as the current folder."""
    write_project(tmp_path / "p", tiny_llama)
    monkeypatch.chdir(tmp_path / "p")
    return tmp_path / "p"


def choice_of(endpoint: ScriptedEndpoint, **changes: Any) -> Choice:
    fields = {"name": "wise", "base_url": endpoint.url, "price": PRICE}
    return Choice(**{**fields, **changes})


def written(project: Path, made: Distilled, name: str = "rows.jsonl") -> list[dict[str, Any]]:
    path = Tiers.of(project).store.path(made.synthetic, name)
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_training_rows_of_a_dataset_are_answered_anew(
    project: Finished, endpoint: ScriptedEndpoint
) -> None:
    made = distill_data(Answers("elements"), choice_of(endpoint), project.root)
    assert made.dataset.label == "dataset/elements-wise@v1"
    assert made.dataset.body.splits["train"].rows == 40
    assert made.synthetic.body.templates == {}
    assert made.synthetic.body.method == "distill"
    row = written(project.root, made)[0]
    assert row["prompt"] == "The value of iron0 is 100 units.\n\nAs JSON."
    assert json.loads(row["completion"]) == {"name": "iron0", "value": 100}
    assert (row["source"], row["teacher"], row["group"]) == ("synthetic", "wise", "iron0")
    nodes = list(walk(made.dataset, project.tiers.store))
    assert {"synthetic", "teacher", "suite"} <= {node.role for node in nodes}
    assert verify(made.dataset, project.tiers.store) == []
    assert "elements-wise" in read(project.root / "dataset_registry.yaml")
    manifest = find_manifest(project.tiers.manifests, made.run_id)
    assert (manifest.run_type, manifest.teacher_model) == ("data_gen", "wise")
    assert manifest.cost_estimate_usd_total == pytest.approx(made.synthetic.body.cost_usd or 0)


def test_a_file_of_prompts_without_answers_is_enough(
    here: Path, endpoint: ScriptedEndpoint
) -> None:
    prompts = [{"prompt": row["context"], "domain": row["domain"]} for row in rows(range(20))]
    write_rows(here / "asked.jsonl", prompts)
    answers = Answers("asked.jsonl", rows=12)
    made = distill_data(
        answers, choice_of(endpoint), here, dataset_id="mine", output=here / "out" / "rows.jsonl"
    )
    assert made.dataset.label == "dataset/mine@v1"
    assert made.synthetic.body.requested == 12
    assert list(made.synthetic.body.sources) == ["asked.jsonl"]
    lines = (here / "out" / "rows.jsonl").read_text().splitlines()
    assert [json.loads(line)["prompt"] for line in lines] == [p["prompt"] for p in prompts[:12]]
    assert made.dataset.inputs.keys() == {"synthetic", "suite"}


def test_without_a_config_a_model_is_named_and_a_share_is_held_out(
    tmp_path: Path, tiny_llama: Path, endpoint: ScriptedEndpoint
) -> None:
    (tmp_path / "asked.txt").write_text(
        "\n".join(f"What of {row['context']}" for row in rows(range(40))) + "\n\n"
    )
    made = distill_data(
        Answers(str(tmp_path / "asked.txt"), system="Be brief."),
        choice_of(endpoint),
        tmp_path,
        model=str(tiny_llama),
    )
    splits = made.dataset.body.splits
    assert splits["train"].rows + splits["eval"].rows == 40
    assert Tiers.of(tmp_path).store.names("suite") == ["asked-wise"]
    assert endpoint.received[0].body["messages"][0] == {"role": "system", "content": "Be brief."}
    assert isinstance(written(tmp_path, made)[0]["prompt"], str)
    with pytest.raises(ConfigError):
        distill_data(Answers("asked.txt"), choice_of(endpoint), tmp_path)


def test_held_out_prompts_are_never_asked(here: Path, endpoint: ScriptedEndpoint) -> None:
    with pytest.raises(LeakError, match="judged by"):
        distill_data(Answers("suite/elements"), choice_of(endpoint), here)
    with pytest.raises(LeakError, match=r"data\.eval_path"):
        distill_data(Answers("./eval.jsonl"), choice_of(endpoint), here)
    write_rows(here / "mixed.jsonl", [*rows(range(8)), *rows([100, 103])])
    made = distill_data(Answers("mixed.jsonl"), choice_of(endpoint), here)
    assert made.synthetic.body.rejected == {"leaks a held-out row": 2}
    assert made.synthetic.body.requested == 8
    asked = " ".join(str(received.body["messages"]) for received in endpoint.received)
    assert not any(f"{row['context']}" in asked for row in rows([100, 103]))


def test_echoed_held_out_rows_are_dropped_as_leaks(here: Path) -> None:
    held_out = rows([104])[0]

    def answer(messages: list[dict[str, str]]) -> str:
        if "iron0" in messages[-1]["content"]:
            said = f"{held_out['context']} {held_out['prompt']} {held_out['target_answer']}"
            return f"{said} {said} {said}"
        return teach(messages)

    write_rows(here / "asked.jsonl", [{"prompt": row["context"]} for row in rows(range(12))])
    with ScriptedEndpoint(Script(function=answer)) as endpoint:
        made = distill_data(Answers("asked.jsonl"), choice_of(endpoint), here)
    assert made.synthetic.body.rows == 12
    kept = made.dataset.body
    assert kept.splits["train"].rows == 12 - sum(kept.dropped.values())


def test_lines_that_ask_nothing_are_told_and_kept(here: Path, endpoint: ScriptedEndpoint) -> None:
    good = [{"prompt": row["context"]} for row in rows(range(3))]
    write_rows(here / "asked.jsonl", [*good, {"colour": "red"}, {"prompt": ""}])
    made = distill_data(Answers("asked.jsonl"), choice_of(endpoint), here)
    assert made.synthetic.body.rejected == {"malformed": 2}
    assert [line["id"] for line in written(here, made, "rejects.jsonl")] == [
        "asked.jsonl:4",
        "asked.jsonl:5",
    ]
    write_rows(here / "none.jsonl", [{"colour": "red"}])
    with pytest.raises(DataError, match="no prompt to ask"):
        distill_data(Answers("none.jsonl"), choice_of(endpoint), here)


def test_a_budget_is_a_cap_and_more_of_it_goes_on(here: Path, endpoint: ScriptedEndpoint) -> None:
    answers = Answers("train.jsonl", max_new_tokens=64)
    whole = preview_distill(answers, choice_of(endpoint), here)
    assert whole.usd is not None
    assert (whole.rows, whole.requests) == (40, 40)
    assert endpoint.received == []
    with pytest.raises(BudgetSpent):
        distill_data(answers, choice_of(endpoint, budget_usd=whole.usd / 9), here)
    paid = len(endpoint.billed)
    assert 0 < paid < 40
    assert preview_distill(answers, choice_of(endpoint), here).cached == paid
    made = distill_data(answers, choice_of(endpoint, budget_usd=whole.usd), here)
    assert (made.synthetic.body.rows, made.synthetic.body.cached) == (40, paid)
    assert len(endpoint.billed) == 40


def test_an_empty_answer_gives_no_row(here: Path) -> None:
    def answer(messages: list[dict[str, str]]) -> str:
        return " " if "iron0" in messages[-1]["content"] else teach(messages)

    with ScriptedEndpoint(Script(function=answer)) as endpoint:
        made = distill_data(Answers("train.jsonl"), choice_of(endpoint), here)
    assert made.synthetic.body.rejected == {"unparsable": 1}


def test_the_suite_of_the_prompts_own_dataset_stays_held_out(
    tmp_path: Path, tiny_llama: Path, endpoint: ScriptedEndpoint
) -> None:
    changes = {"eval_path": None, "eval_fraction": 0.25}
    config = write_project(tmp_path, tiny_llama, data=changes)
    dataset = prepare_only(config, dataset_id="mine")
    suite = Tiers.of(tmp_path).store.get("suite", Tiers.of(tmp_path).store.names("suite")[0])
    made = distill_data(Answers("dataset/mine@v1"), choice_of(endpoint), tmp_path)
    assert made.dataset.inputs["suite"] == suite.digest
    assert made.synthetic.body.requested == dataset.body.splits["train"].rows < 40
    manifest = find_manifest(Tiers.of(tmp_path).manifests, made.run_id)
    assert manifest.outputs["suite"] == suite.digest


def test_another_model_may_measure_the_rows(
    here: Path, tmp_path: Path, tiny_llama: Path, endpoint: ScriptedEndpoint
) -> None:
    write_project(here, "gone")
    made = distill_data(
        Answers("train.jsonl", rows=20), choice_of(endpoint), here, model=str(tiny_llama)
    )
    assert made.dataset.body.splits["train"].rows == 20
