"""Freezing a suite: which held-out rows are asked, and how their answers will be scored."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow.parquet as pq

from nexa.core.detectable import tell
from nexa.core.errors import EvalError
from nexa.core.events import emit
from nexa.core.identity import sha256_bytes, where
from nexa.core.records import Artifact, DatasetBody, Draft, SuiteBody
from nexa.core.scoring import read_rows, write_rows
from nexa.core.store import Store
from nexa.eval.tasks.definition import Definition
from nexa.eval.tasks.table import metrics_of, task_of
from nexa.lm import plain_text

SPLIT = "eval"
Part = Literal["all", "analysis", "acceptance"]
ANALYSIS_SHARE = 1 / 3


@dataclass(frozen=True)
class FreezeSpec:
    """What a suite holds."""

    name: str = where()
    rows: int = 64  # rows asked, fewer if the dataset has fewer
    max_new_tokens: int = 160  # longest answer, its end-of-turn token included
    metrics: tuple[str, ...] = ()  # besides the primary one; none means all of the task's
    task: str | Definition = "auto"  # a name, or what a file says; auto infers it from the answers
    part: Part = "all"  # where weaknesses are looked for, or where a round is accepted on
    analysis_share: float = ANALYSIS_SHARE  # of each domain's groups, for `analysis`


@dataclass(frozen=True)
class Question:
    """One row of `prompts.jsonl`: the turns before the answer, and the answer wanted."""

    id: str
    group: str
    domain: str | None
    messages: tuple[Mapping[str, str], ...]
    target: str


def freeze(spec: FreezeSpec, *, dataset: Artifact[DatasetBody], store: Store) -> Draft[SuiteBody]:
    """Choose rows of the dataset's split `eval` and write down how they are scored.

    Rows come from every domain in proportion, and within it from every group in turn, in the
    order of their ids' digests: the same rows whenever the dataset is the same, and mostly the
    same when rows are added to it.

    Raises:
        EvalError: no held-out rows, a row without an answer, or a task or metric that does not fit.
    """
    if spec.rows < 1 or spec.max_new_tokens < 1:
        raise EvalError(
            "a suite needs rows, and tokens to answer them with",
            found=f"rows {spec.rows}, max_new_tokens {spec.max_new_tokens}",
        )
    held_out = part_of(_held_out(dataset, store), spec.part, spec.analysis_share)
    chosen = choose(held_out, spec.rows)
    if len(chosen) < spec.rows:
        of = "" if spec.part == "all" else f" for {spec.part}"
        emit(
            "note", text=f"the suite has {len(chosen)} rows: {dataset.label} holds out no more{of}"
        )
    targets = [question.target for question in chosen]
    task = task_of(targets, spec.task)
    defined = spec.task if isinstance(spec.task, Definition) else None
    described = defined.content.get("metrics", ()) if defined else ()
    sizes = Counter(question.group for question in chosen)
    emit("note", text=f"the suite's {tell(list(sizes.values()), task.primary)}")
    body = SuiteBody(
        task=task.name,
        rows=len(chosen),
        groups=len({question.group for question in chosen}),
        domains=dict(sorted(Counter(q.domain for q in chosen if q.domain).items())),
        metrics=metrics_of(task, spec.metrics or described),
        primary=task.primary,
        max_new_tokens=spec.max_new_tokens,
        part=None if spec.part == "all" else spec.part,
        definition=dict(defined.content) if defined else None,
        task_sha256=defined.sha256 if defined else None,
    )
    rows = write_rows([_as_row(question) for question in chosen])
    return Draft("suite", spec.name, body, {"prompts.jsonl": rows})


def choose(questions: Sequence[Question], wanted: int) -> list[Question]:
    """`wanted` of the questions, or all: domains in proportion, groups in turn, by digest."""
    if len(questions) <= wanted:
        return sorted(questions, key=_digest)
    by_domain: dict[str, list[Question]] = defaultdict(list)
    for question in questions:
        by_domain[question.domain or ""].append(question)
    seats = _seats({domain: len(rows) for domain, rows in by_domain.items()}, wanted)
    chosen = [q for domain, rows in by_domain.items() for q in _in_turn(rows)[: seats[domain]]]
    return sorted(chosen, key=_digest)


def part_of(questions: Sequence[Question], part: Part, share: float) -> list[Question]:
    """The rows of one of two disjoint parts, which together are all; whole groups, in their order.

    `share` of each domain's groups are for `analysis`: those whose names have the lowest digests,
    rounded, but of two groups or more never none and never all. A row that is added to a group
    moves nothing; a group that is added to a domain moves one other group of it at most.

    Raises:
        EvalError: a share that leaves no side anything, or a part without rows.
    """
    if part == "all":
        return list(questions)
    if not 0 < share < 1:
        raise EvalError("both parts of a suite need a share", found=f"analysis_share {share:g}")
    analysed = _analysed(questions, share)
    chosen = [q for q in questions if (q.group in analysed) == (part == "analysis")]
    if not chosen:
        raise EvalError(
            f"no held-out rows are left for {part}",
            found=f"{len(questions)} rows in {len({q.group for q in questions})} groups",
            fix="hold out more groups of rows: data.eval_path, or a larger data.eval_fraction",
        )
    return chosen


def _analysed(questions: Sequence[Question], share: float) -> set[str]:
    """The groups of `analysis`; one with rows in several domains counts in the first by name."""
    domains: dict[str, str] = {}
    for question in questions:
        domain = question.domain or ""
        domains[question.group] = min(domain, domains.get(question.group, domain))
    members: dict[str, list[str]] = defaultdict(list)
    for group in sorted(domains, key=_part_digest):
        members[domains[group]].append(group)
    return {group for groups in members.values() for group in groups[: _lowest(groups, share)]}


def _lowest(groups: Sequence[str], share: float) -> int:
    """How many of a domain's groups are analysed; a lone one by its digest alone."""
    if len(groups) == 1:
        return int(int(_part_digest(groups[0])[:8], 16) < share * 16**8)
    return min(max(1, round(share * len(groups))), len(groups) - 1)


def _part_digest(group: str) -> str:
    # Not the digest of the group alone: by that one it was held out.
    return sha256_bytes(f"part:{group}".encode())


def read_suite(suite: Artifact[SuiteBody], store: Store) -> list[Question]:
    """The questions of a frozen suite, in its order."""
    rows = read_rows(store.path(suite, "prompts.jsonl").read_bytes())
    return [
        Question(r["id"], r["group"], r["domain"], tuple(r["messages"]), r["target"]) for r in rows
    ]


def read_split(dataset: Artifact[DatasetBody], split: str, store: Store) -> list[dict[str, Any]]:
    """The rows of one split of a dataset.

    Raises:
        EvalError: it has no such split, or no rows in it.
    """
    name = f"{split}.parquet"
    found = dataset.body.splits.get(split)
    if found is None or not found.rows or name not in dataset.files:
        held = {split: info.rows for split, info in dataset.body.splits.items()}
        raise EvalError(
            f"{dataset.label} has no rows in its split {split!r}",
            found=", ".join(f"{split} ({rows} rows)" for split, rows in held.items()),
            fix="give data.eval_path, or data.eval_fraction above 0" if split == SPLIT else None,
        )
    columns = ["row_id", "group", "domain", "messages"]
    rows: list[dict[str, Any]] = pq.read_table(
        store.path(dataset, name), columns=columns
    ).to_pylist()
    return rows


def _held_out(dataset: Artifact[DatasetBody], store: Store) -> list[Question]:
    questions = [_question(row) for row in read_split(dataset, SPLIT, store)]
    twice = [row_id for row_id, n in Counter(q.id for q in questions).items() if n > 1]
    if twice:
        raise EvalError(f"{dataset.label} holds out the row {twice[0]} more than once")
    return questions


def _question(row: Mapping[str, Any]) -> Question:
    turns = [{"role": m["role"], "content": m["content"]} for m in row["messages"]]
    if plain_text.is_text(turns):  # its beginning is the question, its continuation the answer
        begun, continued = plain_text.question_of(turns[0]["content"])
        turns = [*plain_text.as_messages(begun)] if begun else []
        turns += [{"role": "assistant", "content": continued}]
    if len(turns) < 2 or turns[-1]["role"] != "assistant":
        raise EvalError(
            f"the held-out row {row['row_id']} cannot be asked: it does not end with an answer",
            found=", ".join(turn["role"] for turn in turns) or "no turns",
        )
    return Question(
        id=row["row_id"],
        group=row["group"] or row["row_id"],
        domain=row["domain"],
        messages=tuple(turns[:-1]),
        target=turns[-1]["content"],
    )


def _as_row(question: Question) -> dict[str, Any]:
    return {
        "id": question.id,
        "group": question.group,
        "domain": question.domain,
        "messages": [dict(turn) for turn in question.messages],
        "target": question.target,
    }


def _seats(sizes: Mapping[str, int], wanted: int) -> dict[str, int]:
    """Largest remainders, but no domain without a row while there are rows enough for all."""
    total = sum(sizes.values())
    least = 1 if wanted >= len(sizes) else 0
    seats = {name: max(least, wanted * size // total) for name, size in sizes.items()}
    # Who is furthest below its share comes first; names break ties.
    order = sorted(sizes, key=lambda name: (seats[name] - wanted * sizes[name] / total, name))
    short = wanted - sum(seats.values())
    for name in order[:short] if short > 0 else ():
        seats[name] += 1
    while sum(seats.values()) > wanted:
        seats[max(seats, key=lambda name: (seats[name], name))] -= 1
    return seats


def _in_turn(questions: Sequence[Question]) -> list[Question]:
    """The first row of every group, then the second of every group, and so on."""
    groups: dict[str, deque[Question]] = defaultdict(deque)
    for question in sorted(questions, key=_digest):
        groups[question.group].append(question)
    order = deque(sorted(groups, key=lambda group: sha256_bytes(group.encode())))
    turns = []
    while order:
        group = order.popleft()
        turns.append(groups[group].popleft())
        if groups[group]:
            order.append(group)
    return turns


def _digest(question: Question) -> str:
    return sha256_bytes(question.id.encode())
