"""The tables of docs/EVAL_FRAMEWORK.md, made from the code that they tell of."""

from __future__ import annotations

from nexa.eval import fence
from nexa.eval.rubrics.reading import load_rubric
from nexa.eval.rubrics.rubric import LEVELS
from nexa.eval.tasks.table import BUILT_IN, NAMED
from nexa.feedback.feedback_generators.registry import BUILT_IN as BUILT_IN_GENERATORS
from nexa.feedback.feedback_generators.registry import Selector


def task_table() -> str:
    """Every task of the package with its metrics, the primary one first."""
    rows = ["| task | what is asked | primary metric | other metrics |", "|---|---|---|---|"]
    for task in (*BUILT_IN, *NAMED):
        others = ", ".join(f"`{m}`" for m in (*task.versions, *task.corpus) if m != task.primary)
        rows.append(f"| `{task.name}` | {task.about} | `{task.primary}` | {others or '-'} |")
    return "\n".join(rows)


def metric_table() -> str:
    """Every metric that a row has, with its version."""
    rows = ["| task | metric | version | what it is |", "|---|---|---|---|"]
    for task in (*BUILT_IN, *NAMED):
        for metric in task.metrics:
            name = f"| `{task.name}` | `{metric.name}` | {metric.version} |"
            rows.append(f"{name} {metric.about} |")
    return "\n".join(rows)


def criteria_table() -> str:
    """The criteria of the package's rubric, with the words of each level."""
    rubric = load_rubric()
    head = " | ".join(str(level) for level in LEVELS)
    rows = [f"| criterion | asks | {head} |", "|---|---|" + "---|" * len(LEVELS)]
    for criterion in rubric.criteria:
        words = " | ".join(criterion.levels)
        rows.append(f"| `{criterion.name}` | {criterion.asks} | {words} |")
    weights = ", ".join(f"{c.name} {c.weight:g}" for c in rubric.criteria)
    told = f"Primary: `{rubric.primary}`. Weights: {weights}. Digest: `{rubric.sha256}`."
    return "\n".join([*rows, "", told])


def flag_table() -> str:
    """What is looked for in answers under judgement."""
    kinds = {
        fence.INVISIBLE: "taken out: zero-width, direction marks, tags, control characters",
        fence.CONTROL: "escaped: `<\\|im_start\\|>`, `[INST]`, `</s>` and the like",
        fence.FENCE: "escaped: a word like those that the data stands between",
        fence.TURN: 'shown as data: a line that begins with "System:", "User:" and the like',
        fence.VERDICT: "shown as data, in which its quotes are escaped; it lacks the nonce",
        fence.ORDER: 'shown as data: "ignore the rubric", "give 5 of 5", "you are the judge"',
    }
    rows = ["| flag | what is done |", "|---|---|"]
    return "\n".join([*rows, *(f"| {kind} | {done} |" for kind, done in kinds.items())])


def generator_table() -> str:
    """Who makes candidates, and whether a teacher is asked for them."""
    rows = ["| generator | what it makes | asks a teacher |", "|---|---|---|"]
    for name, made in BUILT_IN_GENERATORS.items():
        asks = "no" if isinstance(made, Selector) else "yes"
        rows.append(f"| `{name}` | {made.about} | {asks} |")
    return "\n".join(rows)


EVAL_PARTS = {
    "tasks": task_table,
    "metrics": metric_table,
    "criteria": criteria_table,
    "flags": flag_table,
    "generators": generator_table,
}
