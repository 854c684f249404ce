"""One round, as a run with its manifest: weak slices, rows against them, a training, a verdict.

The order is the story: the model as it stands answers the rows for analysis; where it is weak,
candidates are made and merged into a new version of its dataset; the base model is trained on that
by the very recipe of config.yaml; and on the rows for acceptance the two models are compared. What
is rolled back stays in the store and the registry with its reason, and nowhere else.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nexa.core.events import emit
from nexa.core.records import (
    Artifact,
    DatasetBody,
    DecisionBody,
    ExportBody,
    ScoresBody,
    SuiteBody,
    SyntheticBody,
    WeaknessBody,
)
from nexa.data.registry import ACCEPTED, State, mark
from nexa.feedback.feedback_loop import DecideSpec
from nexa.lm.journal import read_journal
from nexa.orchestrate import deliver, plan
from nexa.orchestrate.improve import candidates as made_by
from nexa.orchestrate.improve.asked import Asked
from nexa.orchestrate.improve.ground import Ground, Model
from nexa.orchestrate.improve.scored import scored
from nexa.orchestrate.improve.spending import Budget
from nexa.orchestrate.liveness import keep_manifest
from nexa.orchestrate.merge_data import Merged, merge_candidates
from nexa.orchestrate.run import close_scored, finetuned, fit
from nexa.orchestrate.run_checkpoints import RunCheckpoints
from nexa.orchestrate.run_state import Run, opened
from nexa.orchestrate.sealed_data import REGISTRY
from nexa.orchestrate.teaching import with_journal

COUNTED = re.compile(r"(.+?) (\d[\d,]*)(?:, |$)")  # `near-duplicate 12, in the suite 3`
CONTROL: State = "control"


@dataclass(frozen=True)
class Outcome:
    """What a round came to.

    `nothing` says why there was no round: nothing is weak, or nobody has a row to offer.
    """

    run_id: str
    weakness: Artifact[WeaknessBody]
    decision: Artifact[DecisionBody] | None = None
    tried: Artifact[DatasetBody] | None = None
    records: Mapping[str, Artifact[Any]] = field(default_factory=dict)
    nothing: str = ""
    weak: bool = True


@dataclass(frozen=True)
class Turn:
    """What a round begins with."""

    number: int
    before: Model
    exclude: Artifact[DatasetBody]
    """What is not offered again: the model's rows, and those that were just tried in vain."""
    pool: Path | None


def play(ground: Ground, asked: Asked, turn: Turn, budget: Budget) -> Outcome:
    """Play one round to its end.

    Raises:
        BudgetSpent: what is left does not reach for the next step.
        TrainingError: a guard stopped the training on the new rows.
        NexaError: whatever stops a run; its manifest says so.
    """
    with opened(ground.tiers, ground.config, ground.config_path, run_type="improve") as run:
        emit(
            "improve.round",
            number=turn.number,
            run_id=run.run_id,
            dataset=turn.before.dataset.label,
        )
        dataset = turn.before.dataset
        run.ledger.amend(
            student_model=ground.base.name,
            dataset_id=f"{dataset.name}@{dataset.version}",
            dataset_hash=dataset.digest,
            inputs={
                "model": ground.base.digest,
                "dataset": dataset.digest,
                "before": turn.before.export.digest,
            },
        )
        return _Playing(ground, asked, turn, budget, run).play()


class _Playing:
    """A round under way."""

    def __init__(self, ground: Ground, asked: Asked, turn: Turn, budget: Budget, run: Run) -> None:
        self.ground, self.asked, self.turn = ground, asked, turn
        self.budget, self.run = budget, run
        self.analysis, self.suite = ground.frozen(run)
        self.guard = ground.guard(run)

    def play(self) -> Outcome:
        """The story, in its order."""
        weakness = self._weakness()
        if not any(one.weak for one in weakness.body.slices):
            told = f"no slice of {len(weakness.body.slices)} is weak"
            return self._no_round(weakness, told, weak=False)
        try:
            offered = self._candidates(weakness)
        except made_by.NoCandidates as none:
            return self._no_round(weakness, f"there are no candidates: {none.what}")
        merged = self._merged(offered)
        before = self._asked_of(self.turn.before.export, self.suite, "before")
        if merged.dataset.digest == self.turn.before.dataset.digest:
            decision = self._decide(weakness, before, merged, offered)
            return self._rolled_back(weakness, decision, None)
        checkpoints, export = self._train()
        if export.body.model_digest == self.turn.before.export.body.model_digest:
            checkpoints.empty()
            return self._unchanged(weakness, merged.dataset)
        after = self._asked_of(export, self.suite, "tuned")
        arm = None
        if self.asked.control:
            emit("improve.control", state="begin")
            arm = self._control(weakness, merged, before, after)
            emit("improve.control", state="end")
        decision = self._decide(weakness, before, merged, offered, after)
        if decision.body.accepted:
            outcome = self._accepted(weakness, decision, merged.dataset)
        else:
            outcome = self._rolled_back(weakness, decision, merged.dataset)
        for used in (checkpoints, arm):
            if used is not None:
                used.empty()
        return outcome

    # -- what is weak, and rows against it -----------------------------------------------

    def _weakness(self) -> Artifact[WeaknessBody]:
        scores = self._asked_of(self.turn.before.export, self.analysis, "analysis")
        spec = self.asked.weakness(f"{self.ground.name}-weakness", self.analysis.body)
        return self.run.step("weakness", "weakness", spec, suite=self.analysis, scores=scores)

    def _candidates(self, weakness: Artifact[WeaknessBody]) -> Artifact[DatasetBody]:
        """Raises: NoCandidates: nobody has a row to offer."""
        asked, run, turn = self.asked, self.run, self.turn
        if asked.teacher is None:
            return made_by.selected(
                run,
                self._pool(),
                weakness,
                turn.exclude,
                rows=asked.rows,
                seed=turn.number,
                how=asked.generator,
            )
        answers = run.made["analysis_answers"]
        dataset = turn.before.dataset
        spec = made_by.proposal(asked, asked.teacher, dataset.name, run.tiers, seed=turn.number)
        given = {"weakness": weakness, "dataset": dataset, "answers": answers}
        journal = with_journal(made_by.STEP, spec, given, run.tiers).teacher.journal
        paid_usd = read_journal(journal).spent_usd
        self.budget.book.note_journal(journal.name, paid_usd)
        left_usd = self.budget.left_usd()
        if left_usd is not None:  # a journal's budget is for all that is in it
            spec = made_by.limited(spec, left_usd + paid_usd)
        most = made_by.most_usd(spec, run.tiers, weakness, dataset, answers)
        self.budget.require(f"what {spec.teacher.name} may answer", most.usd or 0.0)
        return made_by.written(run, spec, self.ground.base, weakness, dataset, answers)

    def _pool(self) -> Artifact[DatasetBody]:
        dataset, ground = self.turn.before.dataset, self.ground
        spec = made_by.pool_rows(
            self.turn.pool, dataset.name, ground.base, ground.config, self.run.scratch
        )
        return self.run.step("pool", "prepare", spec)

    def _merged(
        self, offered: Artifact[DatasetBody], *, arm: str = "", state: State = "on trial"
    ) -> Merged:
        return merge_candidates(
            self.run,
            self.turn.before.dataset,
            offered,
            self.ground.base,
            role=f"{arm}dataset",
            suite=self.guard,
            state=state,
        )

    # -- models and their scores ---------------------------------------------------------

    def _train(self) -> tuple[RunCheckpoints, Artifact[ExportBody]]:
        """The base model on the new version, by the recipe of config.yaml."""
        self.budget.require("another training")
        dataset, base, run = self.run.made["dataset"], self.ground.base, self.run
        run.ledger.amend(
            dataset_id=f"{dataset.name}@{dataset.version}", dataset_hash=dataset.digest
        )
        checkpoints = fit(run, base, {})
        merge = plan.merge(base, run.scratch)
        return checkpoints, run.step("export", "merge", merge, checkpoint=run.made["checkpoint"])

    def _asked_of(
        self, export: Artifact[ExportBody], suite: Artifact[SuiteBody], side: str
    ) -> Artifact[ScoresBody]:
        self.budget.require("more answers")
        model = Model("", self.turn.before.dataset, export).files(self.run.tiers)
        return scored(self.run, model, export, suite, side=side, name=self.ground.name)

    def _compared(
        self,
        role: str,
        before: Artifact[ScoresBody],
        after: Artifact[ScoresBody],
        dataset: Artifact[DatasetBody],
    ) -> Artifact[Any]:
        spec = plan.analyze(self.ground.config, f"{self.ground.name}-{role.replace('_', '-')}")
        return self.run.step(
            role, "analyze", spec, suite=self.suite, dataset=dataset, base=before, tuned=after
        )

    def _control(
        self,
        weakness: Artifact[WeaknessBody],
        merged: Merged,
        before: Artifact[ScoresBody],
        after: Artifact[ScoresBody],
    ) -> RunCheckpoints | None:
        """As many rows of the pool at random, trained and asked alike; then both side by side.

        Roles: `control_decision` is control against before, `control_beside` the round's model
        against the control's. Both are comparisons: nothing is accepted by them.
        """
        self.budget.require("the training of a control")
        run, rows = self.run, sum(merged.added.values())
        try:
            offered = made_by.selected(
                run,
                self._pool(),
                weakness,
                self.turn.before.dataset,
                rows=rows,
                seed=self.turn.number,
                how="random",
                role="control_candidates",
            )
        except made_by.NoCandidates as none:
            emit("note", text=f"there is no control: {none.what}")
            return None
        control = self._merged(offered, arm="control_", state=CONTROL)
        contents = [made.body.content_sha256 for made in (merged.dataset, merged.parent)]
        if control.dataset.body.content_sha256 in contents:
            emit("note", text="there is no control: rows at random give no other dataset")
            return None
        beside = f"{merged.dataset.name}@{merged.dataset.version}"
        reason = f"as many rows at random, trained beside {beside} to compare"
        mark(run.tiers.root / REGISTRY, control.dataset, CONTROL, reason)
        training = plan.finetune(run.config, run.tiers.root, self.ground.base, run.scratch)
        checkpoints, checkpoint = finetuned(run, training, arm="control_")
        merge = plan.merge(self.ground.base, run.scratch)
        export = run.step("control_export", "merge", merge, checkpoint=checkpoint)
        scores = self._asked_of(export, self.suite, "control")
        for role, one, other, dataset in (
            ("control_decision", before, scores, control.dataset),
            ("control_beside", scores, after, merged.dataset),
        ):
            report = self._compared(f"{role}_report", one, other, dataset)
            spec = DecideSpec(
                name=f"{self.ground.name}-{role.replace('_', '-')}",
                round=self.turn.number,
                generator="random" if one is before else self.asked.generator,
                dataset_before=self.turn.before.dataset.label,
                dataset_after=dataset.label,
                added=rows,
            )
            run.step(
                role,
                "decide",
                spec,
                weakness=weakness,
                suite=self.suite,
                before=one,
                report=report,
                after=other,
            )
        return checkpoints

    # -- the verdict ---------------------------------------------------------------------

    def _decide(
        self,
        weakness: Artifact[WeaknessBody],
        before: Artifact[ScoresBody],
        merged: Merged,
        offered: Artifact[DatasetBody],
        after: Artifact[ScoresBody] | None = None,
    ) -> Artifact[DecisionBody]:
        new = after is not None
        report = self._compared("comparison", before, after, merged.dataset) if after else None
        spec = DecideSpec(
            name=f"{self.ground.name}-decision",
            round=self.turn.number,
            generator=self.asked.generator,
            dataset_before=merged.parent.label,
            dataset_after=merged.dataset.label if new else None,
            added=sum(merged.added.values()),
            rejected=rejected(merged, offered, self.run.made.get("synthetic")),
            spent_usd=self.budget.spent_usd(),
        )
        return self.run.step(
            "decision",
            "decide",
            spec,
            weakness=weakness,
            suite=self.suite,
            before=before,
            report=report,
            after=after,
        )

    def _accepted(
        self,
        weakness: Artifact[WeaknessBody],
        decision: Artifact[DecisionBody],
        dataset: Artifact[DatasetBody],
    ) -> Outcome:
        """The new model is the current one: output folder, leaderboard, report against the base.

        Its report is of the rows for acceptance: the only ones that no generator has had a hint of.
        """
        run, ground = self.run, self.ground
        scores = scored(run, ground.base, None, self.suite, side="base", name=ground.name)
        self._compared("report", scores, run.made["tuned_scores"], dataset)
        mark(run.tiers.root / REGISTRY, dataset, ACCEPTED, decision.body.reason)
        deliver.deliver(run, ground.base)
        close_scored(run)
        return self._outcome(weakness, decision, dataset)

    def _rolled_back(
        self,
        weakness: Artifact[WeaknessBody],
        decision: Artifact[DecisionBody],
        dataset: Artifact[DatasetBody] | None,
    ) -> Outcome:
        """Nothing changes but the registry and the ledger."""
        if dataset is not None:
            mark(self.run.tiers.root / REGISTRY, dataset, "rolled back", decision.body.reason)
        self._close("done", f"rolled back: {decision.body.verdict}")
        return self._outcome(weakness, decision, dataset)

    def _unchanged(
        self, weakness: Artifact[WeaknessBody], dataset: Artifact[DatasetBody]
    ) -> Outcome:
        """The training ended before it came to a new row: there are no two models to compare."""
        told = f"the training on {dataset.label} made the same model: it ends before the new rows"
        mark(self.run.tiers.root / REGISTRY, dataset, "rolled back", told)
        return self._no_round(weakness, told)

    def _no_round(
        self, weakness: Artifact[WeaknessBody], told: str, *, weak: bool = True
    ) -> Outcome:
        self._close("skipped", None)
        return Outcome(self.run.run_id, weakness, nothing=told, weak=weak)

    def _close(self, eval_status: str, verdict: str | None) -> None:
        self.run.meter()
        self.run.ledger.close("done", eval_status=eval_status, verdict=verdict)
        keep_manifest(self.run.tiers, self.run.ledger)

    def _outcome(
        self,
        weakness: Artifact[WeaknessBody],
        decision: Artifact[DecisionBody],
        dataset: Artifact[DatasetBody] | None,
    ) -> Outcome:
        return Outcome(self.run.run_id, weakness, decision, dataset, dict(self.run.made))


def rejected(
    merged: Merged,
    offered: Artifact[DatasetBody],
    synthetic: Artifact[SyntheticBody] | None = None,
) -> dict[str, int]:
    """Reason -> candidates that did not come in: as answers, in their preparation, in the merge."""
    counts = Counter(offered.body.dropped)
    counts.update(synthetic.body.rejected if synthetic is not None else {})
    if merged.why:
        here = {reason: int(n.replace(",", "")) for reason, n in COUNTED.findall(merged.why)}
    else:
        before = Counter(merged.parent.body.dropped) + Counter(offered.body.dropped)
        here = {name: n - before[name] for name, n in merged.dataset.body.dropped.items()}
    counts.update(here)
    return {reason: count for reason, count in sorted(counts.items()) if count}
