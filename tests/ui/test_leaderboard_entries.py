from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nexa.core.errors import EvalError
from nexa.core.records import Artifact, Interval, JudgeSeal, Safety, Spent
from nexa.core.scoring import read_rows
from nexa.ui.leaderboard_entries import Subject, entries_of
from tests.support.chain import Chain, build_chain

HALF = Interval(mean=0.5, low=0.25, high=0.75, n=12, groups=6)
JUDGE = JudgeSeal(
    judge_model_id="wise",
    judge_identity={"provider": "openai"},
    judge_prompt_hash="1" * 64,
    rubric="default",
    rubric_sha256="2" * 64,
    decoding={"temperature": 0.0},
    parser="levels/1",
)


@pytest.fixture(scope="module")
def chain(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Chain:
    return build_chain(tmp_path_factory.mktemp("chain"), tiny_llama)


def with_scores(chain: Chain, **changes: Any) -> dict[str, Artifact[Any]]:
    scores = chain.records["tuned_scores"]
    body = scores.body.model_copy(update=changes)
    return {**chain.records, "scores": replace(scores, body=body)}


def rows_of(chain: Chain) -> tuple[dict[str, Any], ...]:
    path = chain.store.path(chain.records["tuned_scores"], "scores.jsonl")
    return tuple(read_rows(path.read_bytes()))


def test_a_training_run_enters_base_and_tuned_with_every_metric(chain: Chain) -> None:
    entries = entries_of(chain.records, chain.manifest)

    told = {(e.role, e.metric, e.primary, round(e.mean, 3), e.verdict) for e in entries}
    assert told == {
        ("base", "exact", True, 0.0, ""),
        ("base", "valid_json", False, 0.0, ""),
        ("tuned", "exact", True, 0.833, "improved"),
        ("tuned", "valid_json", False, 0.833, "improved"),
    }
    base, tuned = entries[0], entries[-1]
    assert (tuned.model, tuned.cost_usd, tuned.tokens_trained) == ("tiny@v1", 0.033333, 4000)
    assert (base.contaminated_rows, tuned.contaminated_rows, tuned.contaminated_ids) == (
        None,
        0,
        (),
    )
    assert tuned.scores_digest == chain.records["tuned_scores"].digest
    assert tuned.prompts_sha256 == chain.records["suite"].files["prompts.jsonl"]
    assert (tuned.missing, tuned.judge_model_id, tuned.latency_s_p50) == (0, None, None)
    assert entries_of(chain.records, {})[0].run_id == ""


def test_where_nobody_could_look_contamination_is_not_known(chain: Chain) -> None:
    report = chain.records["report"]
    body = report.body.model_copy(update={"contaminated_rows": None})
    records = {**chain.records, "report": replace(report, body=body)}

    assert {e.contaminated_rows for e in entries_of(records, chain.manifest)} == {None}


def test_judged_scores_name_judge_prompt_rubric_cost_safety_and_what_is_missing(
    chain: Chain,
) -> None:
    records = with_scores(
        chain,
        judge=JUDGE,
        primary="valid_json",
        missing={"exact": 3, "valid_json": 0},
        bounds={"exact": [0.5, 0.75]},
        corpus={"macro_f1": HALF},
        safety=Safety(
            rules="1", safety_score=HALF, red_flag_count=4, flagged_rows=["a"], kinds={"toxic": 4}
        ),
        spent=Spent(
            requests=12,
            latency_s_p50=0.5,
            latency_s_p95=1.5,
            input_tokens=10,
            output_tokens=20,
            cost_usd=0.06,
            price_source="a list",
        ),
    )
    subject = Subject(
        chain.records["suite"],
        "teacher",
        "wise",
        latency_s=(9.0, 9.0),
        cost_usd_per_1000_prompts=5.0,
        cost_source="a list",
        agreement={"exact": (0.75, "alpha, 8 rows")},
    )

    entries = {e.metric: e for e in entries_of(records, chain.manifest, {"scores": subject})}

    exact = entries["exact"]
    assert (exact.judge_model_id, exact.judge_prompt_hash) == ("wise", "1" * 64)
    assert (exact.rubric_sha256, exact.human_agreement) == ("2" * 64, 0.75)
    assert entries["valid_json"].human_agreement is None
    assert (exact.missing, exact.bound_low, exact.bound_high) == (3, 0.5, 0.75)
    assert (exact.safety_score, exact.red_flag_count) == (0.5, 4)
    assert (exact.latency_s_p50, exact.latency_s_p95) == (0.5, 1.5)
    assert (exact.cost_usd_per_1000_prompts, exact.cost_source) == (5.0, "a list")
    assert [m for m, e in entries.items() if e.primary] == ["valid_json"]
    assert (entries["macro_f1"].mean, entries["macro_f1"].missing) == (0.5, None)


def test_rows_seen_in_training_are_counted_listed_and_scored_apart(chain: Chain) -> None:
    rows = rows_of(chain)
    wrong = next(row["id"] for row in rows if not row["exact"])
    right = next(row["id"] for row in rows if row["exact"])
    subject = Subject(
        chain.records["suite"], "tuned", "tiny", contaminated=(wrong, right), rows=rows
    )

    entry = entries_of(with_scores(chain), {}, {"scores": subject})[0]

    assert (entry.contaminated_rows, entry.contaminated) == (2, True)
    assert entry.contaminated_ids == tuple(sorted((wrong, right)))
    assert entry.contaminated_mean == 0.5
    assert entry.clean_mean == pytest.approx(9 / 10)
    assert entry.clean_low is not None
    assert entry.clean_high is not None


@pytest.mark.parametrize("share", ["all", "none scored", "no rows here"])
def test_a_part_without_rows_has_no_mean(chain: Chain, share: str) -> None:
    rows = rows_of(chain)
    leaked = tuple(row["id"] for row in rows) if share == "all" else ("elsewhere",)
    kept = () if share == "no rows here" else rows
    subject = Subject(chain.records["suite"], "tuned", "t", contaminated=leaked, rows=kept)

    entry = entries_of(with_scores(chain), {}, {"scores": subject})[0]

    assert (entry.clean_mean is None) == (share != "none scored")
    assert (entry.contaminated_mean is None) == (share != "all")


def test_scores_of_another_suite_do_not_enter(chain: Chain) -> None:
    subject = Subject(chain.records["suite"], "other", "tiny")

    with pytest.raises(EvalError, match="was not taken on suite/elements"):
        entries_of(with_scores(chain, suite_digest="0" * 64), {}, {"scores": subject})
