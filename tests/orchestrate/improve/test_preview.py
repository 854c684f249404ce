"""`nexa improve --dry-run`: nothing is made, and what is known is told."""

from __future__ import annotations

from pathlib import Path

from nexa.lm.client import Price
from nexa.orchestrate.improve.asked import Options
from nexa.orchestrate.improve.preview import UNKNOWN, preview_improvement
from tests.orchestrate.improve.conftest import Done, Project
from tests.support.improving import RULE, WEAK, rows, write_improvable
from tests.support.project import train, write_rows

ANSWERED = "answered the rows for analysis"


def files(root: Path) -> set[Path]:
    return {path for path in root.rglob("*") if path.is_file() and path.suffix != ".place"}


def test_before_the_first_training_little_is_known(tmp_path: Path, tiny_llama: Path) -> None:
    config = write_improvable(tmp_path, tiny_llama)
    before = files(tmp_path)
    planned = preview_improvement(config, Options(rounds=3))
    assert planned["round 0"] == "config.yaml is trained first"
    assert planned["time a round"] == "as long as nexa train takes"
    assert planned["candidates"] == "120 rows in pool.jsonl"
    assert (planned["what is weak"], planned["weak"]) == (UNKNOWN, [])
    assert planned["rounds"] == "at most 3, 40 candidates each"
    assert files(tmp_path) == before


def test_after_a_pass_it_tells_what_is_weak_of_the_accepted_model(improved: Done) -> None:
    planned = preview_improvement(improved.project.config, Options(budget_usd=2.0))
    assert planned["round 0"] == f"run {improved.told.run_id}"
    assert planned["what is weak"] == "0 of 4 slices"
    assert planned["weak"] == []
    assert planned["budget"] == "2 USD"
    assert planned["machine a round"] == "0.0000 USD"


def test_a_trained_model_that_answered_nothing_is_not_known(trained: Project) -> None:
    planned = preview_improvement(trained.config, Options())
    assert planned["round 0"] == f"run {trained.runs()[0].run_id}"
    assert planned["what is weak"].endswith(ANSWERED)


def test_a_teacher_s_price_is_told_as_soon_as_it_is_known_what_is_weak(
    tmp_path: Path, tiny_llama: Path
) -> None:
    folder = tmp_path / "words"
    folder.mkdir()
    config = write_improvable(folder, tiny_llama, training={"max_steps": 2})
    known = folder / "train.jsonl"
    write_rows(folder / "more.jsonl", rows(WEAK, range(3)))
    known.write_text(known.read_text() + (folder / "more.jsonl").read_text())
    (folder / "more.jsonl").unlink()
    train(config)
    project = Project(folder)
    asked = Options(
        generator="teacher",
        teacher="wise",
        base_url="http://127.0.0.1:9/v1",
        price=Price(1.0, 2.0, source="a test"),
        rules=(RULE,),
    )
    first = preview_improvement(config, asked)
    assert first["teacher"].startswith("wise; what it costs is known when")
    assert first["candidates"] == "120 rows in pool.jsonl"
    project.improve(rounds=1, rows=40)
    (folder / "pool.jsonl").unlink()
    told = preview_improvement(config, asked)
    assert told["teacher"].endswith(" USD at most")
    assert "requests" in told["teacher"]
    assert told["candidates"] == "what the teacher writes"
    free = Options(**{**vars(asked), "price": None})
    assert preview_improvement(config, free)["teacher"].endswith("at an unknown price")
