from __future__ import annotations

from collections.abc import Callable

import krippendorff
import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import cohen_kappa_score

from nexa.core.records import Figure
from nexa.eval import agreement_figures
from nexa.eval.agreement_figures import NO_INTERVAL, alpha, kappa, spearman

ROWS = 40
GROUPS = [f"g{row // 2}" for row in range(ROWS)]
DRAW = np.random.default_rng(7)
PEOPLE = DRAW.integers(1, 6, ROWS)
JUDGED = np.clip(PEOPLE + DRAW.integers(-1, 2, ROWS), 1, 5)
RATINGS = np.vstack([PEOPLE, JUDGED]).astype(float)


def weighted(rows: np.ndarray) -> float:
    levels = [1, 2, 3, 4, 5]
    return float(cohen_kappa_score(JUDGED[rows], PEOPLE[rows], labels=levels, weights="quadratic"))


def plain(rows: np.ndarray) -> float:
    return float(cohen_kappa_score(JUDGED[rows], PEOPLE[rows], labels=[1, 2, 3, 4, 5]))


def ranked(rows: np.ndarray) -> float:
    return float(spearmanr(JUDGED[rows], PEOPLE[rows]).statistic)


def reliable(rows: np.ndarray) -> float:
    return float(
        krippendorff.alpha(
            RATINGS[:, rows], level_of_measurement="ordinal", value_domain=[1, 2, 3, 4, 5]
        )
    )


CASES: dict[str, tuple[Callable[[], Figure], Callable[[np.ndarray], float]]] = {
    "kappa": (lambda: kappa(JUDGED.tolist(), PEOPLE.tolist(), GROUPS, quadratic=False), plain),
    "weighted": (lambda: kappa(JUDGED.tolist(), PEOPLE.tolist(), GROUPS, quadratic=True), weighted),
    "spearman": (lambda: spearman(JUDGED.tolist(), PEOPLE.tolist(), GROUPS), ranked),
    "alpha": (lambda: alpha(RATINGS.tolist(), GROUPS), reliable),
}


@pytest.mark.parametrize("name", CASES)
def test_value_and_interval_are_those_of_the_libraries_drawn_one_by_one(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agreement_figures, "DRAWS", 200)
    ours, theirs = CASES[name]
    found = ours()
    assert found.value == pytest.approx(theirs(np.arange(ROWS)))
    times = agreement_figures._times_drawn(GROUPS)
    drawn = [theirs(np.repeat(np.arange(ROWS), row.astype(int))) for row in times]
    assert [found.low, found.high] == pytest.approx(np.quantile(drawn, [0.025, 0.975]).tolist())
    assert (found.n, found.why) == (ROWS, "")
    assert ours() == found


def test_whole_clusters_are_drawn() -> None:
    times = agreement_figures._times_drawn(GROUPS)
    assert times.shape == (agreement_figures.DRAWS, ROWS)
    assert (times.sum(axis=1) == ROWS).all()
    assert (times[:, 0::2] == times[:, 1::2]).all()


def test_perfect_agreement_is_one() -> None:
    levels = [1, 2, 3, 4, 5, 1, 2, 3]
    groups = [str(row) for row in range(8)]
    for found in (
        kappa(levels, levels, groups, quadratic=False),
        spearman(levels, levels, groups),
        alpha([levels, levels], groups),
    ):
        assert (found.value, found.high) == (1, 1)


def test_one_level_everywhere_says_why_there_is_no_measure() -> None:
    same, groups = [3, 3, 3], ["a", "b", "c"]
    assert kappa(same, same, groups, quadratic=True).value is None
    assert "all levels of both are 3" in kappa(same, same, groups, quadratic=True).why
    assert "all levels are 3" in alpha([same, same], groups).why
    assert "the judge gave every row 3" in spearman(same, [1, 2, 3], groups).why
    assert "people gave every row 3" in spearman([1, 2, 3], same, groups).why
    constant = kappa(same, [1, 3, 5], groups, quadratic=False)
    assert constant.value == 0


@pytest.mark.parametrize(("rows", "why"), [(0, "no row has levels of both"), (1, "one row says")])
def test_too_few_rows_say_so(rows: int, why: str) -> None:
    levels, groups = [4] * rows, ["a"] * rows
    found = [
        kappa(levels, levels, groups, quadratic=False),
        spearman(levels, levels, groups),
        alpha([levels, levels], groups),
    ]
    assert all(figure.value is None and why in figure.why for figure in found)


def test_rows_with_one_rating_say_nothing_to_alpha() -> None:
    groups = list("abcde")
    whole = alpha([[1, 2, 4], [1, 3, 4]], groups[:3])
    more = alpha([[1, 2, 4, None, 5], [1, 3, 4, None, None]], groups)
    assert (more.value, more.low, more.n) == (whole.value, whole.low, 3)


def test_a_measure_that_most_draws_leave_undefined_has_no_interval(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(agreement_figures, "FEWEST_DRAWS", 0.6)
    # Half of the draws of two clusters hold one of them twice: there is no order in that.
    found = spearman([1, 2], [2, 1], ["a", "b"])
    assert (found.value, found.low, found.high, found.why) == (-1, None, None, NO_INTERVAL)
