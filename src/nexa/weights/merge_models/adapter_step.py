"""The step: adapters of one base become one adapter, sealed in the place of a checkpoint."""

from __future__ import annotations

import json
import shutil
import tempfile
import weakref
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nexa.core.errors import ModelError
from nexa.core.events import emit
from nexa.core.identity import sha256_file, where
from nexa.core.records import AdoptedBody, Artifact, Draft
from nexa.core.store import Store
from nexa.lm import adapters
from nexa.lm.chat import ChatTemplate
from nexa.lm.resolve import ModelFiles
from nexa.lm.tokenizer import load_tokenizer
from nexa.weights.merge_models.adapters import MergedAdapters, merge_adapters
from nexa.weights.merge_models.methods import Method, Options


@dataclass(frozen=True)
class MergeAdaptersSpec:
    """How the adapters are merged; which ones is what the step is given."""

    base: ModelFiles
    """The model that all of them belong on."""
    method: Method
    options: Options
    rank: int | None = None
    """The most that a layer of the result may have; None: the sum of its parents'."""
    name: str = where(default="merged")
    scratch: Path | None = where(default=None)


def merge_sealed_adapters(
    spec: MergeAdaptersSpec, *, store: Store, **parents: Artifact[Any]
) -> Draft[AdoptedBody]:
    """Merge adapters and prove the result; `parents` are parent1, parent2 and so on, in order.

    The draft's files are the adapter's two, as PEFT has them, and parity.json. It is an adopted
    model: not trained, and in a lineage what an export is merged from.

    Raises:
        UsageError: numbers that do not suit the method.
        ModelError: an adapter that cannot be merged, or two that are not of one base.
        ParityError: what was written is not what was combined.
    """
    ordered = [parents[f"parent{number}"] for number in range(1, len(parents) + 1)]
    _require_one_base(spec.base, ordered)
    scratch = Path(tempfile.mkdtemp(prefix="nexa-merge-", dir=spec.scratch))
    try:
        folders = [
            store.checkout(parent, scratch / f"parent{number}")
            for number, parent in enumerate(ordered, 1)
        ]
        out = scratch / "adapter"
        merged = merge_adapters(
            folders, spec.method, spec.options, out, rank=spec.rank, base=spec.base.ref
        )
        draft = Draft("adopted", spec.name, _body(spec, out, merged), _files(out))
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    emit("weights.parity", passed=True, checks=len(merged.parity.checks))
    weakref.finalize(draft, shutil.rmtree, scratch, ignore_errors=True)
    return draft


def _require_one_base(base: ModelFiles, parents: list[Artifact[Any]]) -> None:
    for parent in parents:
        if parent.body.base.digest != base.digest:
            raise ModelError(
                f"{parent.label} does not belong on {base.name}",
                found=f"its base is {parent.body.base.name} ({parent.body.base.digest[:16]}), "
                f"the other is {base.digest[:16]}",
                fix="adapters are merged with each other on one base only; merge each into its own "
                "base, then merge these models",
            )


def _body(spec: MergeAdaptersSpec, out: Path, merged: MergedAdapters) -> AdoptedBody:
    template = ChatTemplate(load_tokenizer(spec.base))
    ranks = sorted(set(merged.ranks.values()))
    one = len(ranks) == 1
    told = {"method": spec.method, "rank": spec.rank}
    return AdoptedBody(
        base=spec.base.ref,
        base_named_by="the adapters that were merged",
        method="lora",
        rank=merged.rank,
        alpha=float(merged.rank),
        ranks=None if one else ranks,
        alphas=None if one else [float(rank) for rank in ranks],
        target_modules=sorted({module.rsplit(".", 1)[-1] for module in merged.ranks}),
        found={path.name: sha256_file(path) for path in sorted(out.iterdir())},
        left_out=[],
        template_sha256=template.sha256,
        end_of_turn=list(template.end_of_turn),
        weights_sha256=sha256_file(out / adapters.WEIGHTS),
        recipe=json.loads(json.dumps({**asdict(spec.options), **told})),
        parity=merged.parity.to_json(),
    )


def _files(out: Path) -> dict[str, bytes | Path]:
    return {path.name: path for path in sorted(out.iterdir())}
