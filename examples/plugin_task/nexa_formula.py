"""A task and a metric of one's own: chemical formulas, atom by atom, and answers kept short."""

from __future__ import annotations

import re
from collections import Counter

from nexa.eval.tasks.similarity import TextMetric
from nexa.eval.tasks.task import Grade, Metric, Task

PART = re.compile(r"([A-Z][a-z]?)(\d*)")
FORMULA = re.compile(r"(?:[A-Z][a-z]?\d*)+")


def atoms(formula: str) -> Counter[str] | None:
    """How many atoms of each element; None for what is no formula."""
    if not FORMULA.fullmatch(formula.strip()):
        return None
    counts: Counter[str] = Counter()
    for element, number in PART.findall(formula):
        counts[element] += int(number or 1)
    return counts


def grade(answer: str, target: str) -> Grade:
    """C2H6O and C2H5OH have the same atoms."""
    given = atoms(answer)
    return Grade({"same_atoms": float(given == atoms(target))}, {"no_formula": int(given is None)})


def brevity(answer: str, target: str) -> float:
    """1 for an answer that is no longer than the target, less for every word too many."""
    return min(1.0, max(1, len(target.split())) / max(1, len(answer.split())))


TASK = Task(
    name="formula",
    about="the answer is a chemical formula",
    metrics=(Metric("same_atoms", 1, "1 if the atoms are the target's, in any order"),),
    primary="same_atoms",
    parser="formula/1",
    fits=lambda targets: bool(targets) and all(atoms(target) is not None for target in targets),
    grader=lambda targets: grade,
)
BREVITY = TextMetric(Metric("brevity", 1, "words of the target over those of the answer"), brevity)
