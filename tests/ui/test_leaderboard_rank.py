from __future__ import annotations

from dataclasses import replace

import pytest

from nexa.core.errors import EvalError
from nexa.core.records import Interval
from nexa.ui.leaderboard import Entry
from nexa.ui.leaderboard_rank import boards, front, rank, seals_differ
from tests.ui.entry import ENTRY

OTHER_SEAL = "6" * 64


def model(name: str, mean: float, **changes: object) -> Entry:
    facts = {"model": name, "model_digest": name * 32, "verdict": "", "mean": mean}
    return replace(ENTRY, **{"low": mean - 0.1, "high": mean + 0.1, **facts, **changes})


def difference(mean: float, width: float = 0.05) -> Interval:
    return Interval(mean=mean, low=mean - width, high=mean + width, n=12, groups=6)


def test_there_is_one_board_for_each_suite_and_seal_best_first() -> None:
    better = model("b", 0.75)
    elsewhere = replace(ENTRY, seal=OTHER_SEAL, mean=1.0)
    secondary = replace(ENTRY, metric="valid_json", primary=False, mean=1.0)
    another_suite = replace(ENTRY, suite="zoo@v1", prompts_sha256="9" * 64)

    made = boards([ENTRY, elsewhere, better, secondary, another_suite])

    assert [(b.suite, b.seal, b.metric, b.entries) for b in made] == [
        ("elements@v1", ENTRY.seal, "exact", (better, ENTRY)),
        ("elements@v1", OTHER_SEAL, "exact", (elsewhere,)),
        ("zoo@v1", ENTRY.seal, "exact", (another_suite,)),
    ]
    assert [b.entries for b in boards([ENTRY, secondary], metric="valid_json")] == [(secondary,)]


@pytest.mark.parametrize("changes", [{"seal": OTHER_SEAL}, {"metric": "f1"}, {"suite": "zoo@v1"}])
def test_scores_made_in_different_ways_are_never_ranked_together(
    changes: dict[str, str],
) -> None:
    with pytest.raises(EvalError, match="cannot be ranked together"):
        rank([ENTRY, replace(ENTRY, **changes)])  # type: ignore[arg-type]


def test_the_refusal_says_which_part_of_the_seal_differs() -> None:
    parts = {
        ENTRY.seal: {"judge": "wise", "judge prompt": "aaaa"},
        OTHER_SEAL: {"judge": "wise", "judge prompt": "bbbb"},
    }

    with pytest.raises(EvalError, match=r"judge prompt \(aaaa \| bbbb\)"):
        rank([ENTRY, replace(ENTRY, seal=OTHER_SEAL)], parts)


def test_what_no_record_tells_of_a_seal_is_not_made_up() -> None:
    assert seals_differ(["a", "b"], {"a": {"task": "x"}}) == ""
    assert "no record names" in seals_differ(["a", "b"], {"a": {"task": "x"}, "b": {"task": "x"}})
    assert seals_differ(["a", "b"], {"a": {"judge": "w"}, "b": {}}) == "judge (w | none)"


def test_models_of_an_api_stand_beside_each_local_seal_of_their_ruler() -> None:
    local = replace(ENTRY, ruler="r")
    other_engine = model("b", 0.75, seal=OTHER_SEAL, ruler="r")
    teacher = model("c", 1.0, seal="7" * 64, ruler="r", origin="api:openai")
    stranger = model("d", 1.0, seal="8" * 64, ruler="s", origin="api:openai")
    beside = model("e", 0.5, seal="9" * 64, ruler="s", origin="api:anthropic")

    made = boards([local, other_engine, teacher, stranger, beside])

    assert [[entry.model for entry in board.entries] for board in made] == [
        ["c", "tiny"],
        ["c", "b"],
        ["d", "e"],
    ]


def test_who_cannot_be_told_from_the_first_of_a_band_shares_its_rank() -> None:
    entries = [model("a", 0.9), model("b", 0.85), model("c", 0.5), model("d", 0.45)]
    found = {("a", "b"): 0.02, ("a", "c"): -0.4, ("c", "d"): -0.2}

    [board] = boards(entries, paired=lambda x, y: difference(found[x.model, y.model]))

    told = [(p.entry.model, p.rank, p.tied_by) for p in board.ranked]
    assert told == [
        ("a", 1, ""),
        ("b", 1, "paired difference"),
        ("c", 3, ""),
        ("d", 4, ""),
    ]
    assert [p.behind and p.behind.mean for p in board.ranked] == [None, 0.02, -0.4, -0.2]


def test_without_rows_a_tie_is_where_the_intervals_overlap() -> None:
    [board] = boards([model("a", 0.9), model("b", 0.75), model("c", 0.5)])

    told = [(p.rank, p.tied_by, p.behind) for p in board.ranked]
    assert told == [(1, "", None), (1, "overlap of intervals", None), (3, "", None)]


def test_contaminated_models_have_no_rank_and_stand_apart() -> None:
    seen = model("a", 1.0, contaminated_rows=3)
    told = model("b", 0.9, verdict="contaminated")
    clean = model("c", 0.2, contaminated_rows=0)

    [board] = boards([seen, told, clean])

    assert [placed.entry for placed in board.ranked] == [clean]
    assert board.apart == (seen, told)
    assert board.entries == (clean, seen, told)


def test_the_front_holds_who_nobody_dominates_and_says_who_dominates_the_others() -> None:
    cheap = model("a", 0.5, cost_usd_per_1000_prompts=1.0)
    dear = model("b", 0.9, cost_usd_per_1000_prompts=10.0)
    bad = model("c", 0.4, cost_usd_per_1000_prompts=10.0)
    twin = model("d", 0.9, cost_usd_per_1000_prompts=10.0)
    unknown = model("e", 1.0)
    seen = model("f", 1.0, contaminated_rows=1, cost_usd_per_1000_prompts=0.1)
    free = model("g", 0.1, cost_usd_per_1000_prompts=0.0)
    [board] = boards([cheap, dear, bad, twin, unknown, seen, free])

    found = front(board, "cost_usd_per_1000_prompts")

    assert [e.model for e in found.best] == ["b", "d", "a", "g"]
    assert [(d.entry.model, [e.model for e in d.by]) for d in found.dominated] == [
        ("c", ["b", "d", "a"])
    ]
    assert [e.model for e in found.unknown] == ["e"]
    assert [e.model for e in front(board, "latency_s_p50").unknown] == list("ebdacg")
