"""Response distillation, its first half: a teacher's answers to prompts, as rows to train on.

The prompts go as they are, with nothing written around them: the student shall learn what the
teacher says to exactly these. Prompts that give a held-out row away are not asked at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from nexa.core.errors import DataError
from nexa.core.identity import slug
from nexa.core.overlap import Example, leaks
from nexa.core.records import Artifact, DatasetBody, Draft, SuiteBody, SyntheticBody
from nexa.core.store import Store
from nexa.data.filters.leaks import LEAK, HeldOut, leaking, read_suite
from nexa.data.prompts import Prompt, Unusable, prompts_of_dataset, prompts_of_files
from nexa.data.sources import MALFORMED, Source
from nexa.lm.client import Request
from nexa.lm.teaching import UNPARSABLE, Ask, Job, NoRow, Teacher, row_of

METHOD = "distill"


@dataclass(frozen=True)
class DistillSpec:
    """Which prompts are answered, and how."""

    teacher: Teacher
    sources: tuple[Source, ...] = ()  # files of prompts, where they are not a dataset's
    rows: int | None = None  # the first so many prompts; None: all
    system: str = ""  # said before every prompt that has no system turn; not trained
    temperature: float = 0.0
    seed: int = 0
    max_new_tokens: int = 1024
    name: str = "prompts"  # the record's, where there is no dataset
    again: int = 0  # raised to ask once more for what was not answered


def distill_materialize(
    spec: DistillSpec,
    *,
    dataset: Artifact[DatasetBody] | None = None,
    suite: Artifact[SuiteBody] | None = None,
    store: Store,
) -> Draft[SyntheticBody]:
    """Ask the teacher every prompt of a dataset's training rows, or of files.

    The draft's files are `rows.jsonl`, `requests.jsonl` and `rejects.jsonl`.

    Raises:
        DataError: there is no prompt, or no answer gave a row.
        BudgetSpent: the budget does not reach for all; what was answered stays in the journal.
    """
    job = Job(spec.teacher)
    asks = _asks(spec, dataset, suite, store, job)
    job.rows = [row for _, row in job.ask(asks)]
    sources = {source.name: source.sha256 for source in spec.sources}
    body = job.body(METHOD, templates={}, sources=sources, seed=spec.seed)
    name = slug(f"{dataset.name if dataset else spec.name}-{METHOD}")
    return Draft("synthetic", name, body, job.files())


def requests_of(
    spec: DistillSpec,
    *,
    dataset: Artifact[DatasetBody] | None = None,
    suite: Artifact[SuiteBody] | None = None,
    store: Store,
) -> list[Request]:
    """All requests of the job, for an estimate.

    Raises:
        DataError: there is no prompt.
    """
    asks = _asks(spec, dataset, suite, store, Job(spec.teacher))
    return [ask.request for ask in asks]


def _asks(
    spec: DistillSpec,
    dataset: Artifact[DatasetBody] | None,
    suite: Artifact[SuiteBody] | None,
    store: Store,
    job: Job,
) -> list[Ask]:
    found = prompts_of_dataset(dataset, store) if dataset else _of_files(spec, job)
    if suite is not None:
        found = _clean(found, read_suite(store.path(suite, "prompts.jsonl")), job)
    if not found:
        first = next((f"{line['id']}: {line['detail']}" for line in job.rejects), None)
        raise DataError("there is no prompt to ask the teacher", found=first)
    return [_ask(spec, prompt) for prompt in found[: spec.rows]]


def _of_files(spec: DistillSpec, job: Job) -> list[Prompt]:
    prompts = []
    for item in prompts_of_files(spec.sources):
        if isinstance(item, Unusable):
            job.refuse(item.origin, NoRow(MALFORMED, item.problem))
        else:
            prompts.append(item)
    return prompts


def _clean(prompts: Sequence[Prompt], held_out: HeldOut, job: Job) -> list[Prompt]:
    """The prompts that give no held-out row away: nothing is paid for the others."""
    asked = [Example(_asked(prompt), "") for prompt in prompts]
    found = leaking(leaks(asked, held_out.examples), held_out)
    for index, why in found.items():
        job.refuse(prompts[index].origin, NoRow(LEAK, why))
    return [prompt for index, prompt in enumerate(prompts) if index not in found]


def _asked(prompt: Prompt) -> str:
    return "\n".join(turn["content"] for turn in prompt.messages if turn["role"] != "system")


def _ask(spec: DistillSpec, prompt: Prompt) -> Ask:
    messages = tuple(prompt.messages)
    if spec.system and not any(turn["role"] == "system" for turn in messages):
        messages = ({"role": "system", "content": spec.system}, *messages)
    request = Request(
        id=prompt.origin,
        messages=messages,
        max_new_tokens=spec.max_new_tokens,
        temperature=spec.temperature,
        seed=spec.seed,
    )
    return Ask(request, (prompt.origin,), partial(_answered, spec, prompt))


def _answered(spec: DistillSpec, prompt: Prompt, text: str, job: Job) -> dict[str, Any]:
    if not text.strip():
        raise NoRow(UNPARSABLE, "the answer is empty")
    return row_of(
        spec.teacher,
        prompt.messages,
        text.strip(),
        parents=[prompt.origin],
        group=prompt.group,
        domain=prompt.domain,
    )
