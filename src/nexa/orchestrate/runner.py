"""One step, from recipe to sealed artifact, or the artifact that an equal recipe made before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nexa.core.errors import UsageError
from nexa.core.events import emit
from nexa.core.identity import fingerprint
from nexa.core.records import Artifact
from nexa.core.store import Store
from nexa.orchestrate.steps import STEPS


def run_step(
    name: str,
    spec: Any,
    artifacts: Mapping[str, Artifact[Any] | None],
    *,
    store: Store,
    effects: Mapping[str, Any] | None = None,
) -> tuple[Artifact[Any], bool]:
    """Make what `STEPS[name]` makes; returns the artifact and whether it was there already.

    `artifacts` are the step's inputs by role. `effects` are further arguments of a step that
    reaches outside the store (publishing): such a step always runs, and is idempotent itself, for
    nobody can know what happened outside.

    Only this function seals: it adds the step's name and version, the fingerprint of the spec and
    the digests of the inputs, so a step cannot claim a lineage that it does not have.

    Raises:
        UsageError: an artifact is missing, of another kind, or not one of the step's inputs.
    """
    step = STEPS[name]
    given = {role: artifact for role, artifact in artifacts.items() if artifact is not None}
    _check_roles(name, given)
    inputs = {role: artifact.digest for role, artifact in sorted(given.items())}
    recipe = recipe_of(name, spec, given)
    known = store.made_by(recipe)
    if known is not None and effects is None:
        emit("step.reused", step=name, label=known.label, digest=known.digest)
        return known, True
    emit("step.start", step=name)
    draft = step.load()(spec, **artifacts, **(effects or {}), store=store)
    sealed = store.seal(
        draft,
        step={"name": name, "version": step.version},
        fingerprint=recipe,
        inputs=inputs,
    )
    emit("step.end", step=name, label=sealed.label, digest=sealed.digest)
    return sealed, False


def recipe_of(name: str, spec: Any, artifacts: Mapping[str, Artifact[Any]]) -> str:
    """The fingerprint of a step's recipe: equal ones make equal artifacts."""
    inputs = {role: artifact.digest for role, artifact in sorted(artifacts.items())}
    return fingerprint(name, STEPS[name].version, spec, inputs)


def _check_roles(name: str, given: dict[str, Artifact[Any]]) -> None:
    """The artifacts are those that the table names: none missing, none of another kind."""
    wanted = dict(item.split(": ") for item in STEPS[name].inputs)
    for role, kind in wanted.items():
        if role not in given and not kind.endswith("?"):
            raise UsageError(f"step {name} needs a {kind} as {role}")
    known = {role: _row_of(role, wanted) for role in given}
    for role, row in known.items():
        if row in wanted and given[role].kind not in wanted[row].rstrip("?").split("|"):
            kind = wanted[row].rstrip("?")
            raise UsageError(f"step {name} takes a {kind} as {role}", found=given[role].label)
    if unknown := sorted(role for role, row in known.items() if row not in wanted):
        raise UsageError(f"step {name} takes no {', '.join(unknown)}")


def _row_of(role: str, wanted: Mapping[str, str]) -> str:
    """The table's name of a role: `parent*` stands for parent1, parent2 and so on."""
    return role if role in wanted else f"{role.rstrip('0123456789')}*"
