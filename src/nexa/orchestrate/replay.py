"""`nexa replay`: a run's training once more, by all that is recorded of it, and what came out.

The recipe is the run's config.yaml, which the store keeps by its digest; the rows and the base
model are found by theirs; what was chosen automatically is not chosen again. The work is done in
scratch and nothing of it stays: the run, its records and its checkpoints are only read.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from nexa.core.config import Config, parse_config
from nexa.core.errors import ConfigError, IntegrityError, UsageError
from nexa.core.events import emit, read_events
from nexa.core.identity import sha256_bytes
from nexa.core.interrupts import Interrupted, stoppable
from nexa.core.manifest import RunManifest, find_manifest, list_manifests
from nexa.core.records import Artifact, CheckpointBody, DatasetBody, Draft
from nexa.core.store import UnknownArtifact
from nexa.core.tiers import Tiers
from nexa.lm.resolve import ModelFiles, base_of
from nexa.orchestrate import liveness, plan
from nexa.orchestrate.provenance import opening_facts
from nexa.orchestrate.replay_compare import (
    LossDistance,
    MetricDistance,
    choices_changed,
    differences,
    loss_distance,
    losses,
    metric_distance,
)
from nexa.orchestrate.runner import recipe_of
from nexa.train.finetune import finetune
from nexa.train.spec import Again, Limits, TrainSpec

SEEDS_ON_A_GPU = 3  # other seeds, where equal bytes cannot be had
METRICS = ("first_loss", "final_loss")  # of the checkpoint's record


@dataclass(frozen=True)
class Recorded:
    """One run's training as it is recorded, found and whole."""

    run: RunManifest
    maker: RunManifest  # the run that made the weights; another one where they were reused
    checkpoint: Artifact[CheckpointBody]
    dataset: Artifact[DatasetBody]
    config: Config
    base: ModelFiles
    resolved: dict[str, Any]
    took_s: float | None  # the training alone; None: the run's log does not say

    @property
    def on_gpu(self) -> bool:
        """Whether it was computed on a GPU, where equal choices do not give equal bytes."""
        return str(self.resolved.get("device", "cpu")) != "cpu"


@dataclass(frozen=True)
class Replay:
    """What came out. `differs` was there before, `changed` are choices that came out otherwise."""

    run_id: str
    equal: bool
    sha256_then: str
    sha256_now: str
    losses: LossDistance
    differs: tuple[str, ...]
    changed: tuple[str, ...]
    seconds: float
    took_s: float | None
    metrics: tuple[MetricDistance, ...] = field(default=())

    @property
    def exit_code(self) -> int:
        """0, or that of `IntegrityError`: what was made again is not what the record says."""
        return 0 if self.equal else IntegrityError.exit_code

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def replay(reference: str, project: Path, *, seeds: int | None = None) -> Replay:
    """Train once more what a run trained, and compare.

    On a processor the weights' sha256 decides. On a GPU the losses do, held against their spread
    over `seeds` other seeds (left out: 3 on a GPU, none on a processor). What differs from then
    (libraries, processor) is told first, as notes.

    Raises:
        UsageError: no such run, it trained nothing, or it is under way.
        ConfigError: the config.yaml that it had is nowhere any more.
        IntegrityError: its records or its rows are gone or were changed.
        ModelError: the base model is gone, or is another by now.
        StorageError: scratch has no room for it.
        Interrupted: a signal ended it; nothing is kept.
    """
    tiers = Tiers.of(project)
    found = recorded(reference, tiers)
    begin = time.monotonic()
    with _by_itself(found), _scratch(tiers) as folder:
        differs = tell_differences(found, tiers)
        again = _trained(found, tiers, folder)
        now = losses(again["losses.jsonl"])
        count = (SEEDS_ON_A_GPU if found.on_gpu else 0) if seeds is None else seeds
        others = [_trained(found, tiers, folder, other=i + 1) for i in range(count)]
    metrics = _metrics(found, again, others)
    then = losses(tiers.store.path(found.checkpoint, "losses.jsonl").read_bytes())
    sha256_then, sha256_now = found.checkpoint.body.weights_sha256, again["body"].weights_sha256
    same = sha256_then == sha256_now
    return Replay(
        run_id=found.run.run_id,
        equal=same or (found.on_gpu and bool(metrics) and all(m.within for m in metrics)),
        sha256_then=sha256_then,
        sha256_now=sha256_now,
        losses=loss_distance(then, now),
        differs=differs,
        changed=choices_changed(found.resolved, again["resolved"]),
        seconds=time.monotonic() - begin,
        took_s=found.took_s,
        metrics=metrics,
    )


def outline(reference: str, project: Path) -> dict[str, Any]:
    """What would be done, and how long it took last time; nothing is trained or written."""
    tiers = Tiers.of(project)
    found = recorded(reference, tiers)
    body, resolved = found.checkpoint.body, found.resolved
    return {
        "run": found.run.run_id,
        "made by": found.maker.run_id,
        "model": f"{found.base.name} ({found.base.origin})",
        "dataset": found.dataset.label,
        "method": found.config.method_name,
        "steps": body.steps,
        "engine": resolved["executor"],
        "precision": resolved["precision"],
        "threads": resolved["threads"],
        "weights": body.weights_sha256,
        "took": None if found.took_s is None else round(found.took_s, 1),
        "differs": list(_differences(found, tiers)),
    }


def recorded(reference: str, tiers: Tiers) -> Recorded:
    """Everything that a replay needs, found and checked; raises as `replay`."""
    run = find_manifest(tiers.manifests, reference)
    checkpoint = _checkpoint(run, tiers)
    maker = _maker(run, tiers)
    return Recorded(
        run=run,
        maker=maker,
        checkpoint=checkpoint,
        dataset=_dataset(run, checkpoint, tiers),
        config=_config(maker, tiers),
        base=base_of(checkpoint, tiers.root),
        resolved=json.loads(tiers.store.path(checkpoint, "resolved.json").read_bytes()),
        took_s=_took_s(maker, tiers),
    )


def tell_differences(found: Recorded, tiers: Tiers) -> tuple[str, ...]:
    """What is not as it was, told as notes before any work."""
    differs = _differences(found, tiers)
    for line in differs:
        emit("note", text=f"differs from run {found.maker.run_id}: {line}")
    return differs


# -- what is recorded ------------------------------------------------------------------------------


def _checkpoint(run: RunManifest, tiers: Tiers) -> Artifact[CheckpointBody]:
    """The weights that a run made or reused, with every byte of their record."""
    if run.run_type not in ("train", "distill", "improve"):
        raise UsageError(f"run {run.run_id} trained nothing", found=f"its type is {run.run_type}")
    if "checkpoint" not in run.outputs:
        under_way = run.status == "running"
        raise UsageError(
            f"run {run.run_id} " + ("is under way" if under_way else "ended before its training"),
            found=run.error or f"its status is {run.status}",
            fix=None if under_way else f"nexa resume {run.run_id}",
        )
    return _whole(run, "checkpoint", run.outputs["checkpoint"], tiers)


def _dataset(
    run: RunManifest, checkpoint: Artifact[CheckpointBody], tiers: Tiers
) -> Artifact[DatasetBody]:
    return _whole(run, "dataset", checkpoint.inputs["dataset"], tiers)


def _whole(run: RunManifest, role: str, digest: str, tiers: Tiers) -> Artifact[Any]:
    """A record and its files, read again: a replay from changed rows would prove nothing."""
    try:
        artifact = tiers.store.by_digest(digest)
    except UnknownArtifact as error:
        raise IntegrityError(
            f"the {role} of run {run.run_id} is not in the store any more",
            found=f"no record {digest[:16]}",
            fix="take .nexa/store from a backup, or run the training again: nexa train",
        ) from error
    if problems := tiers.store.verify(artifact):
        raise IntegrityError(
            f"the {role} of run {run.run_id} is not what it was",
            found="\n".join(problems),
            fix=f"nexa verify {run.run_id}",
        )
    return artifact


def _maker(run: RunManifest, tiers: Tiers) -> RunManifest:
    """The run that trained the weights which this one may only have reused."""
    if "checkpoint" not in run.reused:
        return run
    made = run.outputs["checkpoint"]
    for other in list_manifests(tiers.manifests):
        if other.outputs.get("checkpoint") == made and "checkpoint" not in other.reused:
            return other
    return run


def _config(run: RunManifest, tiers: Tiers) -> Config:
    """The config.yaml that a run had, from the store or from where it was."""
    wanted = run.config_sha256 or ""
    note = liveness.read_note(tiers, run.run_id)
    places = [tiers.store.blob(wanted), tiers.root / "config.yaml"]
    places += [Path(note.config)] if note is not None else []
    for place in places:
        with contextlib.suppress(OSError):
            data = place.read_bytes()
            if sha256_bytes(data) == wanted:
                return parse_config(data.decode())
    raise ConfigError(
        f"the config.yaml of run {run.run_id} is not here any more",
        found=f"none with the sha256 {wanted[:16]}, neither in the store nor in {tiers.root}",
        fix="put the config.yaml of that run back beside runs/",
    )


def _took_s(run: RunManifest, tiers: Tiers) -> float | None:
    """Seconds between the start and the end of the step, by the run's own log."""
    log = tiers.logs / f"{run.run_id}.jsonl"
    if not log.is_file():
        return None
    times = {
        event["kind"]: float(event["t"])
        for event in read_events(log)
        if event["kind"] in ("step.start", "step.end") and event.get("step") == "finetune"
    }
    return times["step.end"] - times["step.start"] if len(times) == 2 else None


def _differences(found: Recorded, tiers: Tiers) -> tuple[str, ...]:
    now = opening_facts(
        datetime.now(UTC), run_type="train", config_path=None, ledger=tiers.manifests
    )
    lines = differences(found.maker, now)
    spec = plan.finetune(found.config, tiers.root, found.base)
    if recipe_of("finetune", spec, {"dataset": found.dataset}) != found.checkpoint.fingerprint:
        lines += ("recipe: this version of nexa reads the config.yaml otherwise",)
    for change in found.maker.inexact:
        lines += (f"the run itself went on inexactly: {change}",)
    return lines


# -- once more -------------------------------------------------------------------------------------


def _spec(found: Recorded, tiers: Tiers, folder: Path, other: int) -> TrainSpec:
    """The run's own spec, with what was chosen and what it came upon; `other` is added to the seed.

    A limit in time or money is left out: it would be reached at another step. The training ends
    where it ended instead.
    """
    resolved = found.resolved
    spec = plan.finetune(found.config, tiers.root, found.base, folder)
    again = Again(found.checkpoint.body.steps, tuple(resolved.get("halvings", ())))
    return replace(
        spec,
        seed=spec.seed + other,
        precision=resolved["precision"],
        engine=resolved["executor"],
        micro_tokens=resolved["micro_tokens"],
        limits=Limits(),
        memory_limit=None,
        rendered=None,
        run_state=folder / "run_state",
        again=again,
    )


def _trained(found: Recorded, tiers: Tiers, folder: Path, *, other: int = 0) -> dict[str, Any]:
    """One training: the body of its record, its losses, its choices."""
    place = folder / f"seed-{other}"
    place.mkdir()
    spec = _spec(found, tiers, place, other)
    draft: Draft[CheckpointBody] = finetune(spec, dataset=found.dataset, store=tiers.store)
    read = {name: _bytes(draft.files[name]) for name in ("losses.jsonl", "resolved.json")}
    shutil.rmtree(place)
    return {
        "body": draft.body,
        "losses.jsonl": read["losses.jsonl"],
        "resolved": json.loads(read["resolved.json"]),
    }


def _bytes(content: bytes | Path) -> bytes:
    return content if isinstance(content, bytes) else content.read_bytes()


def _metrics(
    found: Recorded, again: dict[str, Any], others: list[dict[str, Any]]
) -> tuple[MetricDistance, ...]:
    if len(others) < 2:
        return ()
    return tuple(
        metric_distance(
            metric,
            getattr(found.checkpoint.body, metric),
            getattr(again["body"], metric),
            [getattr(other["body"], metric) for other in others],
        )
        for metric in METRICS
    )


@contextlib.contextmanager
def _by_itself(found: Recorded) -> Iterator[None]:
    """As many threads as then; a signal ends it at once and says that nothing is kept."""
    threads = torch.get_num_threads()
    torch.set_num_threads(found.resolved["threads"])
    try:
        with stoppable():
            yield
    except Interrupted as stop:
        done = (stop.found or "").partition(" was done")[0]
        stop.found = f"{done} was done; a replay keeps nothing" if done else "nothing is kept"
        stop.fix = f"nexa replay {found.run.run_id}   begins anew"
        raise
    finally:
        torch.set_num_threads(threads)


@contextlib.contextmanager
def _scratch(tiers: Tiers) -> Iterator[Path]:
    folder = tiers.new_scratch("replay")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
