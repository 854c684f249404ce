"""Models of an API among those that are evaluated: opened, asked with a journal, paid once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from nexa.core.errors import UsageError
from nexa.core.events import emit
from nexa.core.identity import slug
from nexa.core.records import AnswersBody, Artifact, SuiteBody
from nexa.core.store import Store
from nexa.core.tiers import Tiers
from nexa.eval.ask import AskSpec, requests_of
from nexa.eval.suite import read_suite
from nexa.lm.client import Price
from nexa.lm.prices import TEACHERS
from nexa.lm.requests import estimate
from nexa.lm.scripted_chat import PREFIX as SCRIPTED
from nexa.lm.teachers import AT_ADDRESS, HOSTS
from nexa.lm.teaching import Teacher
from nexa.orchestrate.run_state import Run
from nexa.orchestrate.runner import recipe_of
from nexa.orchestrate.teaching import Choice, Preview, asked_again, metered, open_teacher

STEP = "ask"


@dataclass(frozen=True)
class Terms:
    """Where models of an API are asked, at what price, for how much and how hard, each of them."""

    base_url: str | None = None
    price: Price | None = None
    budget_usd: float | None = None
    concurrency: int | None = None
    per_minute: int | None = None

    def choice(self, name: str) -> Choice:
        """A model with these terms; a name that has its address needs no other."""
        url = None if AT_ADDRESS.fullmatch(name) else self.base_url
        return Choice(
            name=name,
            base_url=url,
            price=self.price,
            budget_usd=self.budget_usd,
            concurrency=self.concurrency,
            per_minute=self.per_minute,
        )


NO_TERMS = Terms()


def is_api(name: str) -> bool:
    """Whether a reference names a model of an API: an alias, openai:..., MODEL@URL, scripted:..."""
    prefixes = (SCRIPTED, *(f"{provider}:" for provider in HOSTS))
    return name in TEACHERS or name.startswith(prefixes) or bool(AT_ADDRESS.fullmatch(name))


def api_names(references: Sequence[str], terms: Terms) -> list[str]:
    """Which of the references are asked over an API; with an address a lone one is.

    Raises:
        UsageError: terms for nobody.
    """
    named = [name for name in references if is_api(name)]
    if not named and terms.base_url is not None and len(references) == 1:
        return list(references)
    if not named and terms != NO_TERMS:
        raise UsageError(
            "--base-url, --price, --budget-usd, --concurrency and --per-minute are for models of "
            "an API, and none is named",
            found=", ".join(references),
            fix="MODEL@URL, openai:MODEL, anthropic:MODEL or an alias, e.g. gpt-4o",
        )
    return named


def answers_of(
    run: Run, teacher: Teacher, suite: Artifact[SuiteBody], *, side: str, name: str
) -> Artifact[AnswersBody]:
    """A model's answers, made or found, and what they cost in the run's manifest.

    Where an earlier run left questions without an answer, those are asked once more.

    Raises:
        BudgetSpent: the budget does not reach for all; what was answered is kept.
    """
    role = f"{side}answers"
    placed = with_journal(AskSpec(teacher, name=name), suite, run.tiers)
    spec = asked_again(STEP, placed, {"suite": suite}, run.tiers)
    paid_usd = run.teacher_usd
    with metered(run, spec.teacher, role):
        answers: Artifact[AnswersBody] = run.step(role, STEP, spec, suite=suite)
    spent = answers.body.spent
    if spent is not None and role not in run.ledger.manifest.reused:
        if spent.cost_usd is not None:
            run.teacher_usd = (paid_usd or 0.0) + spent.cost_usd
        before = run.ledger.manifest.teacher_tokens or {}
        now = {"input": spent.input_tokens or 0, "output": spent.output_tokens}
        run.ledger.amend(
            teacher_tokens={part: before.get(part, 0) + count for part, count in now.items()}
        )
    run.meter()
    if answers.body.failed:
        text = f"{answers.body.failed:,} questions have no answer: the same command asks them again"
        emit("note", text=text)
    return answers


def preview(teacher: Teacher, suite: Artifact[SuiteBody], tiers: Tiers, store: Store) -> Preview:
    """What asking a model would take at most; `store` has the suite's file."""
    requests = requests_of(read_suite(suite, store), suite.body.max_new_tokens)
    placed = with_journal(AskSpec(teacher, name=slug(teacher.name)), suite, tiers).teacher
    found = estimate(placed.model, requests, journal=placed.journal)
    price = placed.model.price
    return Preview(
        teacher=teacher.name,
        rows=len(requests),
        requests=found.requests,
        cached=found.cached,
        input_tokens=found.input_tokens,
        output_tokens=found.output_tokens,
        usd=found.usd,
        price_source=price.source if price else None,
    )


def opened_teacher(name: str, terms: Terms, tiers: Tiers, *, asks: bool = True) -> Teacher:
    """The model, without a journal yet; one that is not asked needs no key.

    Raises:
        ModelError: no such model.
        AccessError: an API whose key is not in the environment.
    """
    return open_teacher(terms.choice(name), tiers.root, asks=asks)


def with_journal(spec: AskSpec, suite: Artifact[SuiteBody], tiers: Tiers) -> AskSpec:
    """The spec with the journal of its model and suite, however often it is asked again."""
    job = recipe_of(STEP, replace(spec, again=0), {"suite": suite})
    return replace(spec, teacher=replace(spec.teacher, journal=tiers.requests / f"{job}.jsonl"))
