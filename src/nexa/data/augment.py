"""New rows from a teacher: by example, in other words, about documents, or better answered.

    self_instruct            training rows as examples -> a new instruction and its answer
    paraphrase               a row's question (or answer) in other words; its numbers must stay
    question_from_document   a piece of a document -> a question, its answer, and the words of the
                             document that prove it, which must stand there
    critique_and_revise      a critique of a row's answer, then the answer revised by it

The rows are no dataset yet: `nexa.data.synthetic` sends them through the filters of all others.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from nexa.core.errors import DataError
from nexa.core.identity import sha256_bytes, slug
from nexa.core.overlap import normalise, numbers
from nexa.core.records import Artifact, DatasetBody, Draft, SyntheticBody
from nexa.core.store import Store
from nexa.data.prompt_templates import PromptTemplate, template
from nexa.data.seeds import Piece, Seed, order, pieces, training_seeds
from nexa.data.sources import Source
from nexa.lm.client import Request
from nexa.lm.teaching import Ask, Job, NoRow, Teacher, row_of

Method = Literal["self_instruct", "paraphrase", "question_from_document", "critique_and_revise"]
Part = Literal["prompt", "answer", "both"]

EXAMPLES = 3
MOST_EXAMPLE_CHARACTERS = 6000  # of all examples together: they must fit a small teacher's context
WARM = 0.7  # where another row is wanted each time
NUMBERS = "numbers changed"
NO_QUOTE = "the quote is not in the document"
GOOD = "nothing to improve"

TEMPLATES: Mapping[Method, tuple[str, ...]] = {
    "self_instruct": ("self_instruct",),
    "paraphrase": ("paraphrase",),
    "question_from_document": ("question_from_document",),
    "critique_and_revise": ("critique", "revise"),
}


@dataclass(frozen=True)
class AugmentSpec:
    """Which rows are wanted, and from whom."""

    teacher: Teacher
    method: Method
    rows: int  # requests that may each give one row
    seed: int = 0
    temperature: float = WARM  # of new rows; critiques and revisions are asked at 0
    part: Part = "prompt"  # what paraphrase puts in other words
    documents: tuple[Source, ...] = ()  # of question_from_document
    max_new_tokens: int = 1024
    again: int = 0  # raised to ask once more for what was not answered


def augment(
    spec: AugmentSpec, *, dataset: Artifact[DatasetBody] | None = None, store: Store
) -> Draft[SyntheticBody]:
    """Ask the teacher for rows.

    The draft's files are `rows.jsonl`, `requests.jsonl` and `rejects.jsonl`.

    Raises:
        DataError: there is nothing to begin from, or no answer gave a row.
        BudgetSpent: the budget does not reach for all; what was answered stays in the journal.
    """
    job = Job(spec.teacher)
    made = job.ask(_first_round(spec, dataset, store))
    if spec.method == "critique_and_revise":
        made = job.ask([_revision(spec, seed, critique) for _, (seed, critique) in made])
    job.rows = [row for _, row in made]
    body = job.body(
        spec.method,
        templates={prompt.name: prompt.sha256 for prompt in templates_of(spec.method)},
        sources={source.name: source.sha256 for source in spec.documents},
        seed=spec.seed,
    )
    name = slug(f"{dataset.name if dataset else 'documents'}-{spec.method}")
    return Draft("synthetic", name, body, job.files())


def requests_of(
    spec: AugmentSpec, *, dataset: Artifact[DatasetBody] | None = None, store: Store
) -> list[Request]:
    """All requests that the job may send, for an estimate; what will be revised is not known yet.

    Raises:
        DataError: there is nothing to begin from.
    """
    asks = _first_round(spec, dataset, store)
    if spec.method == "critique_and_revise":
        longest = "word " * spec.max_new_tokens
        seeds = _of_rows(_seeds(dataset, store), spec)
        asks += [_revision(spec, seed, longest, number) for seed, number in seeds]
    return [ask.request for ask in asks]


def templates_of(method: Method) -> list[PromptTemplate]:
    """The prompts of a method, in the order in which they are sent."""
    return [template(name) for name in TEMPLATES[method]]


def _first_round(
    spec: AugmentSpec, dataset: Artifact[DatasetBody] | None, store: Store
) -> list[Ask]:
    if spec.rows < 1:
        raise DataError("no rows are asked for", found=str(spec.rows), fix="--rows 100")
    if spec.method == "question_from_document":
        found = pieces(spec.documents)
        return [_question(spec, found[i], n) for i, n in order(len(found), spec.rows, spec.seed)]
    if spec.documents:
        raise DataError(f"{spec.method} takes no documents", fix="--method question_from_document")
    seeds = _seeds(dataset, store)
    if spec.method == "self_instruct":
        return [_instruction(spec, seeds, number) for number in range(spec.rows)]
    of_row = _paraphrase if spec.method == "paraphrase" else _critique
    return [of_row(spec, seed, number) for seed, number in _of_rows(seeds, spec)]


def _seeds(dataset: Artifact[DatasetBody] | None, store: Store) -> list[Seed]:
    if dataset is None:
        raise DataError("there is no dataset whose rows could be shown to the teacher")
    return training_seeds(dataset, store)


def _of_rows(seeds: Sequence[Seed], spec: AugmentSpec) -> list[tuple[Seed, int]]:
    return [(seeds[i], number) for i, number in order(len(seeds), spec.rows, spec.seed)]


def _request(
    spec: AugmentSpec,
    prompt: str,
    key: str,
    schema: Mapping[str, Any],
    temperature: float,
    data: Mapping[str, Any],
    number: int = 1,
) -> Request:
    return Request(
        id=f"{prompt}-{key}",
        messages=template(prompt).messages(data, {"number": str(number)}),
        max_new_tokens=spec.max_new_tokens,
        temperature=temperature,
        seed=spec.seed + number,
        json_schema=schema,
    )


# -- self_instruct -------------------------------------------------------------------------------


def _instruction(spec: AugmentSpec, seeds: Sequence[Seed], number: int) -> Ask:
    shown = _examples(seeds, random.Random(f"{spec.seed} {number}"))
    schema = template("self_instruct").schema
    data = {"examples": [{"instruction": s.asked, "answer": s.answer} for s in shown]}
    request = _request(
        spec, "self_instruct", f"{number:06}", schema, spec.temperature, data, number + 1
    )
    return Ask(request, tuple(s.id for s in shown), partial(_instructed, spec, shown))


def _examples(seeds: Sequence[Seed], draw: random.Random) -> list[Seed]:
    """Some rows that do not fill the teacher's context; the first one always."""
    chosen = draw.sample(seeds, min(EXAMPLES, len(seeds)))
    sizes = [len(seed.asked) + len(seed.answer) for seed in chosen]
    return [
        seed
        for i, seed in enumerate(chosen)
        if i == 0 or sum(sizes[: i + 1]) <= MOST_EXAMPLE_CHARACTERS
    ]


def _instructed(spec: AugmentSpec, shown: Sequence[Seed], text: str, job: Job) -> dict[str, Any]:
    said = job.read(text, template("self_instruct").schema)
    first = shown[0]
    return row_of(
        spec.teacher,
        first.system_and(said["instruction"]),
        said["answer"],
        parents=[seed.id for seed in shown],
        group=first.group,
        domain=first.domain,
    )


# -- paraphrase ----------------------------------------------------------------------------------


def _paraphrase(spec: AugmentSpec, seed: Seed, number: int) -> Ask:
    parts = _parts(spec, seed)
    schema = _only(template("paraphrase").schema, parts)
    request = _request(
        spec,
        "paraphrase",
        f"{seed.id}-{number}",
        schema,
        spec.temperature,
        {"texts": parts},
        number,
    )
    return Ask(request, (seed.id,), partial(_rephrased, spec, seed, parts, schema))


def _parts(spec: AugmentSpec, seed: Seed) -> dict[str, str]:
    """The texts that are put in other words: the last question, the answer, or both."""
    last = next(turn for turn in reversed(seed.before) if turn["role"] == "user")
    both = {"prompt": last["content"], "answer": seed.answer}
    return {name: text for name, text in both.items() if spec.part in (name, "both")}


def _only(schema: Mapping[str, Any], keys: Mapping[str, str]) -> dict[str, Any]:
    properties = {key: schema["properties"][key] for key in keys}
    return {**schema, "properties": properties, "required": list(keys)}


def _rephrased(
    spec: AugmentSpec,
    seed: Seed,
    parts: Mapping[str, str],
    schema: Mapping[str, Any],
    text: str,
    job: Job,
) -> dict[str, Any]:
    said = job.read(text, schema)
    for name, before in parts.items():
        if numbers(before) != numbers(said[name]):
            was, now = (", ".join(numbers(words)) or "none" for words in (before, said[name]))
            raise NoRow(NUMBERS, f"{name}: {was} became {now}"[:500])
    asked = seed.asked_as(said["prompt"]) if "prompt" in said else seed.before
    return _derived(spec, seed, asked, said.get("answer", seed.answer))


# -- question_from_document ----------------------------------------------------------------------


def _question(spec: AugmentSpec, piece: Piece, number: int) -> Ask:
    prompt = "question_from_document"
    data = {"document": {"text": piece.text}}
    key = f"{piece.origin}-{number}"
    request = _request(spec, prompt, key, template(prompt).schema, spec.temperature, data, number)
    return Ask(request, (piece.origin,), partial(_asked, spec, piece))


def _asked(spec: AugmentSpec, piece: Piece, text: str, job: Job) -> dict[str, Any]:
    said = job.read(text, template("question_from_document").schema)
    if normalise(said["quote"]).casefold() not in normalise(piece.text).casefold():
        raise NoRow(NO_QUOTE, said["quote"][:500])
    return row_of(
        spec.teacher,
        [{"role": "user", "content": said["question"]}],
        said["answer"],
        parents=[piece.origin],
        group=piece.origin,
        domain=None,
    )


# -- critique_and_revise -------------------------------------------------------------------------


def _critique(spec: AugmentSpec, seed: Seed, number: int) -> Ask:
    data = {"row": {"prompt": seed.asked, "answer": seed.answer}}
    schema = template("critique").schema
    request = _request(spec, "critique", f"{seed.id}-{number}", schema, 0.0, data, number)
    return Ask(request, (seed.id,), partial(_criticised, seed))


def _criticised(seed: Seed, text: str, job: Job) -> tuple[Seed, str]:
    said = job.read(text, template("critique").schema)
    if said["good"]:
        raise NoRow(GOOD, said["critique"][:500])
    return seed, said["critique"]


def _revision(spec: AugmentSpec, seed: Seed, critique: str, number: int = 1) -> Ask:
    data = {"row": {"prompt": seed.asked, "answer": seed.answer, "critique": critique}}
    key = f"{seed.id}-{sha256_bytes(critique.encode())[:8]}-{number}"
    request = _request(spec, "revise", key, template("revise").schema, 0.0, data)
    return Ask(request, (seed.id,), partial(_revised, spec, seed))


def _revised(spec: AugmentSpec, seed: Seed, text: str, job: Job) -> dict[str, Any]:
    said = job.read(text, template("revise").schema)
    return _derived(spec, seed, seed.before, said["answer"])


def _derived(
    spec: AugmentSpec, seed: Seed, before: Sequence[Mapping[str, str]], answer: str
) -> dict[str, Any]:
    """A row made from one other."""
    return row_of(
        spec.teacher, before, answer, parents=[seed.id], group=seed.group, domain=seed.domain
    )
