"""Sealed answers scored once more, and whether the sealed scores follow from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

from nexa.core.events import emit
from nexa.core.records import Artifact, Draft, ScoresBody
from nexa.core.scoring import alike
from nexa.core.store import Store
from nexa.eval.judged import ScoreJudgedSpec, score_judged
from nexa.eval.metrics import ScoreSpec, score
from nexa.eval.tasks.table import frozen_task

# Steps that make scores from what is sealed alone. lm-eval needs its own data to do so.
AGAIN: Mapping[str, tuple[Callable[..., Draft[ScoresBody]], Callable[[str], Any]]] = {
    "score": (score, ScoreSpec),
    "score_judged": (score_judged, ScoreJudgedSpec),
}


def rescored_problems(sealed: Artifact[Any], store: Store) -> Iterator[str]:
    """What of sealed scores does not follow from the answers, or from their judgements."""
    again = AGAIN.get(str(sealed.step["name"]))
    if again is None:
        emit("note", text=f"{sealed.label} was scored by lm-eval, and is not scored again here")
        return
    inputs = {role: store.by_digest(digest) for role, digest in sealed.inputs.items()}
    suite = inputs["suite"]
    if again[0] is score and suite.kind == "suite" and frozen_task(suite.body).runs_code:
        what = f"{sealed.label} was scored by running answers"
        emit("note", text=f"{what}: its code is not run again")
        return
    step, spec = again
    draft = step(spec(sealed.name), **inputs, store=store)
    rows = cast("bytes", draft.files["scores.jsonl"])
    if rows != store.path(sealed, "scores.jsonl").read_bytes():
        yield "its rows do not follow from the answers"
    if not alike(draft.body.model_dump(mode="json"), sealed.body.model_dump(mode="json")):
        yield "its numbers do not follow from the answers"
