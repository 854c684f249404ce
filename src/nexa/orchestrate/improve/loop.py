"""`nexa improve`: round after round, until nothing is weak, nothing helps, or nothing is left.

The same command goes on where it was killed: what was made is in the store by its recipe, answers
are in their journals, weights in their checkpoints, and `book.py` knows which rounds are over.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nexa.core.config import load_config
from nexa.core.errors import BudgetSpent, TrainingError
from nexa.core.events import emit
from nexa.core.identity import sha256_file
from nexa.core.manifest import find_manifest
from nexa.core.records import Artifact, DatasetBody, DecisionBody
from nexa.core.tiers import Tiers
from nexa.data.registry import mark
from nexa.orchestrate import liveness, plan
from nexa.orchestrate.improve import ground as grounds
from nexa.orchestrate.improve.asked import Asked, Options, asked_of, pool_of
from nexa.orchestrate.improve.book import Book, Round, held, read_book
from nexa.orchestrate.improve.ground import Ground, Model
from nexa.orchestrate.improve.round import Outcome, Turn, play
from nexa.orchestrate.improve.spending import HOUR_S, Budget, seconds_of
from nexa.orchestrate.improve.told import RoundTold, told_of
from nexa.orchestrate.sealed_data import REGISTRY
from nexa.orchestrate.teaching import open_teacher

# Rounds that were rolled back one after the other: a third test on the same rows for acceptance
# would rather find what chance has to offer.
MOST_IN_VAIN = 2
NOTHING_WEAK = "nothing is weak"
ROUNDS_DONE = "all rounds are done"
BUDGET = "the budget does not reach for another round"
IN_VAIN = f"{MOST_IN_VAIN} rounds in a row were rolled back"


@dataclass(frozen=True)
class Improved:
    """What a pass of improvement came to."""

    rounds: list[RoundTold]
    ended: str
    detail: str
    dataset: str
    """Label of the version that the current model was trained on."""
    run_id: str
    """The run of the current model."""
    output: str
    spent_usd: float
    weak: bool
    """Whether anything was weak when it ended, as far as anybody looked."""

    @property
    def accepted(self) -> int:
        """Rounds that were kept."""
        return sum(one.accepted for one in self.rounds)

    @property
    def exit_code(self) -> int:
        """0, or that of `BudgetSpent` where money ended it before a round was kept.

        That nothing helped is an answer, no failure.
        """
        return BudgetSpent.exit_code if self.ended == BUDGET and not self.accepted else 0

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "rounds": [one.to_json() for one in self.rounds],
            "accepted": self.accepted,
            "ended": self.ended,
            "detail": self.detail,
            "dataset": self.dataset,
            "run_id": self.run_id,
            "output": self.output,
            "spent_usd": self.spent_usd,
            "exit_code": self.exit_code,
        }


def improve(config_path: Path, options: Options, *, check: bool = True) -> Improved:
    """Improve config.yaml's model, round by round; `./output` has the last one that was accepted.

    Raises:
        ConfigError: no such generator, no pool, no teacher.
        UsageError: another process improves this project.
        LeakError: the rows that rounds are judged by are given away by training rows.
        BudgetSpent: the budget does not reach for the model that rounds begin from.
        NexaError: whatever stops a run; the same command goes on.
    """
    pass_ = _Pass.of(config_path, options)
    with held(pass_.tiers):
        return pass_.run(check=check)


@dataclass
class _Pass:
    """One command under way."""

    config_path: Path
    tiers: Tiers
    asked: Asked
    pool: Path | None
    book: Book
    budget: Budget

    @classmethod
    def of(cls, config_path: Path, options: Options) -> _Pass:
        config = load_config(config_path)
        tiers = Tiers.of(config_path.parent)
        asked = asked_of(options, config.feedback)
        pool = pool_of(asked, config, tiers.root)
        if asked.teacher is not None:
            open_teacher(asked.teacher, tiers.root)  # whose key is missing, before hours of work
        plan.check(config, tiers)
        digest = sha256_file(config_path)
        book = read_book(tiers, digest)
        price = config.infra.cost_per_hour_usd
        budget = Budget(tiers, book, digest, price, asked.budget_usd)
        return cls(config_path, tiers, asked, pool, book, budget)

    def run(self, *, check: bool) -> Improved:
        """Round 0, then one after another."""
        for run_id in liveness.close_dead_runs(self.tiers):
            emit("note", text=f"run {run_id} was killed; its manifest now says so")
        goes_on = self.book.begin(self.asked.told())
        if goes_on:
            done = len(self.book.now.rounds)
            emit(
                "note", text=f"going on with the pass of {self.book.now.begun}: {done} rounds done"
            )
        self.budget.require("the model that rounds begin from")
        own = grounds.own_run(self.config_path, check=check)
        if self.book.stand_on(own.run_id, own.outputs["dataset"]):
            emit("note", text="the rows of config.yaml have changed: rounds begin anew")
        config = load_config(self.config_path)
        ground = Ground(
            config_path=self.config_path,
            config=config,
            tiers=self.tiers,
            base=plan.base_model(config, self.tiers),
            held_out=grounds.held_out_of(own, self.tiers),
            analysis_share=self.asked.analysis_share,
        )
        first = grounds.model_of(own, self.tiers)
        grounds.require_clean(ground, first)
        ended, detail = self._rounds(ground, first)
        if ended != BUDGET:  # with a larger one the same pass goes on
            self.book.end(f"{ended}: {detail}" if detail else ended)
        return self._told(ground, first, ended, detail)

    def _rounds(self, ground: Ground, first: Model) -> tuple[str, str]:
        """Play what there is to play; returns why it ended, and that in more words."""
        while True:
            ended = self._ended()
            if ended is not None:
                return ended
            turn = self._turn(first)
            try:
                outcome = play(ground, self.asked, turn, self.budget)
            except BudgetSpent as spent:
                return BUDGET, f"{spent.what} ({spent.found})"
            except TrainingError as error:
                self._failed(turn, error)
                continue
            if outcome.decision is None:
                return (outcome.nothing, "") if outcome.weak else (NOTHING_WEAK, outcome.nothing)
            self._note(turn, outcome, outcome.decision)

    def _ended(self) -> tuple[str, str] | None:
        """Why there is no other round, before one is begun."""
        rounds = self.book.now.rounds
        if len(rounds) >= self.asked.rounds:
            return ROUNDS_DONE, f"{len(rounds)} of {self.asked.rounds}"
        last = rounds[-MOST_IN_VAIN:]
        if len(last) == MOST_IN_VAIN and not any(done.accepted for done in last):
            return IN_VAIN, last[-1].reason
        try:
            self.budget.require("another round", self._round_usd())
        except BudgetSpent as spent:
            return BUDGET, f"{spent.what} ({spent.found})"
        return None

    def _round_usd(self) -> float:
        """What the machine takes for a round: as long as the longest run of this pass that trained.

        A teacher's part is known, and checked, when it is known what is asked.
        """
        rounds = [done.run_id for done in self.book.now.rounds]
        runs = [*rounds, *([self.book.base["run_id"]] if self.book.base else [])]
        seconds = max((seconds_of(self.tiers.logs / f"{run}.jsonl") for run in runs), default=0.0)
        return seconds / HOUR_S * self.budget.per_hour_usd

    def _turn(self, first: Model) -> Turn:
        """What the next round begins with."""
        before = self._current(first)
        tried = self.book.tried
        exclude = before.dataset if tried is None else self.tiers.store.by_digest(tried)
        # Of all passes, so that another pass draws other rows and asks other questions.
        number = len(self.book.rounds) + 1
        return Turn(number, before, exclude, self.pool)

    def _current(self, first: Model) -> Model:
        """The last accepted model."""
        accepted = self.book.accepted
        if accepted is None:
            return first
        manifest = find_manifest(self.tiers.manifests, accepted.run_id)
        return grounds.model_of(manifest, self.tiers)

    def _note(self, turn: Turn, outcome: Outcome, decision: Artifact[DecisionBody]) -> None:
        """A round that was decided on goes into the book, and is told."""
        body = decision.body
        tried = outcome.tried.digest if outcome.tried is not None else None
        self.book.note_round(
            Round(
                number=turn.number,
                run_id=outcome.run_id,
                accepted=body.accepted,
                reason=body.reason,
                dataset_before=body.dataset_before,
                dataset_after=body.dataset_after,
                tried=tried,
                decision=decision.digest,
            )
        )
        emit(
            "improve.decision",
            number=turn.number,
            accepted=body.accepted,
            reason=body.reason,
            spent_usd=self.budget.spent_usd(),
        )

    def _failed(self, turn: Turn, error: TrainingError) -> None:
        """A training that a guard stopped: its rows are rolled back, with the guard's words."""
        manifest = find_manifest(self.tiers.manifests, "latest")
        tried: Artifact[DatasetBody] = self.tiers.store.by_digest(manifest.outputs["dataset"])
        reason = f"rolled back: the training on {tried.label} was stopped: {error.what}"
        mark(self.tiers.root / REGISTRY, tried, "rolled back", reason)
        before = turn.before.dataset.label
        self.book.note_round(
            Round(turn.number, manifest.run_id, False, reason, before, tried.label, tried.digest)
        )
        emit("improve.decision", number=turn.number, accepted=False, reason=reason)

    def _told(self, ground: Ground, first: Model, ended: str, detail: str) -> Improved:
        current = self._current(first)
        return Improved(
            rounds=[told_of(done, self.tiers) for done in self.book.now.rounds],
            ended=ended,
            detail=detail,
            dataset=current.dataset.label,
            run_id=current.run_id,
            output=str(plan.place(self.tiers.root, ground.config.training.output_dir)),
            spent_usd=self.budget.spent_usd(),
            weak=ended != NOTHING_WEAK,
        )
