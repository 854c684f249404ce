"""`nexa resume`: the training that a run was about, once more, by the config.yaml it had."""

from __future__ import annotations

from pathlib import Path

from nexa.core.errors import ConfigError, IntegrityError, UsageError
from nexa.core.identity import sha256_file
from nexa.core.manifest import RunManifest, find_manifest, read_manifest
from nexa.core.tiers import Tiers
from nexa.orchestrate import liveness
from nexa.orchestrate.run import train


def resume(
    reference: str | None, project: Path, *, allow_inexact: bool = False, check: bool = True
) -> RunManifest:
    """Go on with a run that did not end well; None is the newest one. Flags are as in `train`.

    It becomes a run of its own: a closed manifest is evidence and stays as it is.

    Raises:
        UsageError: there is no such run, it has ended well, or it is under way.
        ConfigError: config.yaml is not what the run was begun with.
    """
    tiers = Tiers.of(project)
    liveness.close_dead_runs(tiers)
    run = find_manifest(tiers.manifests, reference) if reference else _newest_broken(tiers)
    note = liveness.read_note(tiers, run.run_id)
    _check_status(run, alive=note is not None and note.alive)
    config = Path(note.config) if note is not None else project / "config.yaml"
    _check_config(run, config)
    return train(config, allow_inexact=allow_inexact, check=check)


def _newest_broken(tiers: Tiers) -> RunManifest:
    """The newest training that did not end well."""
    for path in sorted(tiers.manifests.glob("*.json"), reverse=True):
        run = _readable(path)
        if run is not None and run.run_type == "train":
            if run.status == "done":
                break
            return run
    raise UsageError("there is nothing to go on with: no training was stopped", fix="nexa train")


def _readable(path: Path) -> RunManifest | None:
    try:
        return read_manifest(path)
    except IntegrityError:
        return None


def _check_status(run: RunManifest, *, alive: bool) -> None:
    if run.run_type == "distill" and run.status in ("failed", "interrupted"):
        raise UsageError(
            f"run {run.run_id} distils: it is the command that says from whom",
            fix="the same nexa distill command: what was answered is not asked again",
        )
    if run.run_type == "improve" and run.status in ("failed", "interrupted"):
        raise UsageError(
            f"run {run.run_id} is a round of improvement",
            fix="the same nexa improve command: what was made is reused",
        )
    if run.run_type != "train":
        raise UsageError(f"run {run.run_id} trained nothing", found=f"its type is {run.run_type}")
    if run.status == "done":
        raise UsageError(f"run {run.run_id} has ended well", fix="nexa train")
    if run.status == "running":
        raise UsageError(
            f"run {run.run_id} is under way" + ("" if alive else ", on another machine it seems"),
            fix="nexa train   goes on from the newest checkpoint, if that run is gone",
        )


def _check_config(run: RunManifest, config: Path) -> None:
    if not config.is_file():
        raise ConfigError(f"the config.yaml of run {run.run_id} is gone", found=str(config))
    if sha256_file(config) != run.config_sha256:
        raise ConfigError(
            f"{config.name} has changed since run {run.run_id}: it would be another training",
            found=f"sha256 {sha256_file(config)[:16]}, then {(run.config_sha256 or '')[:16]}",
            fix="put the old one back, or begin a new run: nexa train",
        )
