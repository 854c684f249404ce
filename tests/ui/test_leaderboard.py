from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nexa.core.errors import EvalError, IntegrityError
from nexa.ui.leaderboard import (
    Entry,
    append,
    board_name,
    entries_of,
    rank,
    rank_sealed,
    read,
    read_all,
    to_parquet,
)
from tests.support.chain import build_chain

DAY = date(2026, 1, 2)
ENTRY = Entry(
    created="2026-01-02T03:08:05+00:00",
    run_id="2026-01-02-030405-abcd",
    role="tuned",
    model="tiny",
    model_digest="a" * 64,
    base_model="base",
    suite="elements@v1",
    seal="5" * 64,
    metric="exact",
    primary=True,
    mean=0.5,
    low=0.25,
    high=0.75,
    rows=12,
    groups=6,
    verdict="improved",
    tokens_trained=4000,
    cost_usd=0.25,
)


def test_a_run_enters_base_and_tuned_with_every_metric(tiny_llama: Path, tmp_path: Path) -> None:
    chain = build_chain(tmp_path, tiny_llama)

    entries = entries_of(chain.records, chain.manifest)

    told = {(e.role, e.metric, e.primary, round(e.mean, 3), e.verdict) for e in entries}
    assert told == {
        ("base", "exact", True, 0.0, ""),
        ("base", "valid_json", False, 0.0, ""),
        ("tuned", "exact", True, 0.833, "improved"),
        ("tuned", "valid_json", False, 0.833, "improved"),
    }
    tuned = entries[-1]
    assert (tuned.model, tuned.cost_usd, tuned.tokens_trained) == ("tiny", 0.033333, 4000)
    assert entries_of(chain.records, {})[0].run_id == ""


def test_entries_are_added_to_the_days_board_and_read_back(tmp_path: Path) -> None:
    other = replace(ENTRY, model_digest="b" * 64, mean=0.75)

    append(tmp_path, [ENTRY], day=DAY)
    path = append(tmp_path, [other], day=DAY)

    assert path.name == "leaderboard_2026-01-02.parquet" == board_name(DAY)
    assert read(path) == [ENTRY, other]
    assert sorted(p.name for p in tmp_path.iterdir()) == [path.name]


def test_the_same_model_scored_the_same_way_is_entered_once(tmp_path: Path) -> None:
    again = replace(ENTRY, run_id="2026-01-02-999999-ffff")
    path = append(tmp_path, [ENTRY], day=DAY)

    before = path.read_bytes()
    append(tmp_path, [ENTRY], day=DAY)
    assert path.read_bytes() == before
    append(tmp_path, [again], day=DAY)
    assert read(path) == [again]


def test_all_days_are_one_board_with_the_newest_entry_of_each(tmp_path: Path) -> None:
    newer = replace(ENTRY, run_id="later")
    append(tmp_path, [ENTRY], day=DAY)
    append(tmp_path, [newer], day=date(2026, 1, 3))

    assert read_all(tmp_path) == [newer]
    assert read_all(tmp_path / "empty") == []


def test_there_is_one_ranking_for_each_seal_best_first() -> None:
    better = replace(ENTRY, model_digest="b" * 64, mean=0.75)
    elsewhere = replace(ENTRY, seal="6" * 64, mean=1.0)
    secondary = replace(ENTRY, metric="valid_json", primary=False, mean=1.0)

    boards = rank([ENTRY, elsewhere, better, secondary])

    assert boards == {ENTRY.seal: [better, ENTRY], elsewhere.seal: [elsewhere]}


@pytest.mark.parametrize("changes", [{"seal": "6" * 64}, {"metric": "f1"}])
def test_scores_made_in_different_ways_are_never_ranked_together(
    changes: dict[str, str],
) -> None:
    other = replace(
        ENTRY, seal=changes.get("seal", ENTRY.seal), metric=changes.get("metric", "exact")
    )

    with pytest.raises(EvalError, match="cannot be ranked together"):
        rank_sealed([ENTRY, other])


def test_a_file_that_is_no_board_is_refused(tmp_path: Path) -> None:
    (tmp_path / "leaderboard_1.parquet").write_bytes(b"no")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "leaderboard_2.parquet")

    with pytest.raises(IntegrityError, match="cannot read the leaderboard"):
        read(tmp_path / "leaderboard_1.parquet")
    with pytest.raises(IntegrityError, match="is not a leaderboard"):
        read(tmp_path / "leaderboard_2.parquet")
    with pytest.raises(IntegrityError, match="cannot read the leaderboard"):
        read(tmp_path / "leaderboard_3.parquet")


def test_an_empty_board_is_a_board(tmp_path: Path) -> None:
    (tmp_path / "board.parquet").write_bytes(to_parquet([]))

    assert read(tmp_path / "board.parquet") == []
