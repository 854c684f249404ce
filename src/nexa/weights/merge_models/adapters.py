"""LoRA adapters of one base become one adapter, by the methods that merge whole models.

An adapter's change of a layer, `scale B A`, is a task vector, so the methods need no base. Ranks,
targets and scales may differ: a layer that an adapter leaves alone counts as a change of zero.
Weighted sums (linear, task_arithmetic, slerp, passthrough) are exact: the factors are put side by
side, and the ranks add up. TIES and DARE leave a change of full rank, and so the nearest of the
wanted rank is written, with its error told.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import statistics
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nexa.core.errors import ModelError, UsageError, WeightsError
from nexa.core.events import Progress, emit, progress
from nexa.core.identity import sha256_file
from nexa.core.records import ModelRef
from nexa.core.store import storage_error, sync_folder, write_atomic
from nexa.lm import adapters
from nexa.lm.adapters import LoraSpec
from nexa.weights.checks import Check, Parity
from nexa.weights.merge_models.methods import (
    NO_BASE,
    Method,
    Options,
    check,
    coefficients,
    combine,
    slerp_factors,
)
from nexa.weights.merging import Change, read_changes

PARITY = "parity.json"
DELTA_LIMIT = 1e-5  # float32 products in another order
ACTS_FLOOR = 1e-6  # the merged change's length, as a share of the longest parent's
TOLD_ERROR = 0.1  # a loss that the user hears of
OVERSAMPLED = 8  # directions that a randomised SVD looks for beyond those that are wanted
POWER_ITERATIONS = 4


@dataclass(frozen=True)
class MergedAdapters:
    """What was written: by module its rank and how far it is from the combined change.

    An error is `|combined - written| / |combined|`, in Frobenius norms; 0 where nothing was lost.
    """

    ranks: Mapping[str, int]
    errors: Mapping[str, float]
    parity: Parity

    @property
    def rank(self) -> int:
        """The largest rank of a module."""
        return max(self.ranks.values())


def merge_adapters(
    folders: Sequence[Path],
    method: Method,
    options: Options,
    out: Path,
    *,
    rank: int | None = None,
    base: ModelRef | None = None,
) -> MergedAdapters:
    """Merge adapter folders in PEFT's format into a new one, `out`, with its parity.json.

    `rank` is the largest that a module may have; None: the sum of its parents' ranks. `base` is
    the model that all of them were trained on; None: what the first of them calls it.

    Raises:
        UsageError: numbers that do not suit the method, or an `out` that is there already.
        ModelError: an adapter that cannot be merged, or two that are not of one base.
        ParityError: what was written is not what was combined; nothing is kept.
        StorageError: it cannot be written.
    """
    check(method, options, models=len(folders), base=True)
    if rank is not None and rank < 1:
        raise UsageError("an adapter's rank is at least 1", found=str(rank))
    if out.exists():
        raise UsageError(f"{out} exists already", fix="name a new folder")
    parents = Parents.read(folders)
    if base is None:
        _tell_bases(parents)
    aside = _aside(out)
    try:
        with progress("merging adapters", 2 * len(parents.shapes), "modules") as bar:
            factors = {}
            for module in parents.shapes:
                factors[module] = _factors(parents, module, method, options, rank)
                bar.advance()
            _write(aside, factors, base or parents.base)
            errors = {module: factor.error for module, factor in factors.items()}
            parity = prove(aside, parents, method, options, errors, bar)
        parity.require()
        write_atomic(aside / PARITY, (json.dumps(parity.to_json(), indent=2) + "\n").encode())
        aside.chmod(0o755)
        aside.rename(out)
        sync_folder(out.parent)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    _tell_loss(errors)
    return MergedAdapters({m: len(factor.a) for m, factor in factors.items()}, errors, parity)


def _aside(out: Path) -> Path:
    """An empty folder beside `out`, that takes its name when it is whole."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    except OSError as error:
        raise storage_error(out, error) from error


def _tell_loss(errors: Mapping[str, float]) -> None:
    module, worst = max(errors.items(), key=lambda item: item[1])
    if worst > TOLD_ERROR:
        emit(
            "note",
            text=f"the merged adapter's rank does not hold all of the change: {worst:.0%} of it "
            f"is lost in {module}; a larger rank loses less, and merging the models loses nothing",
        )


# -- what comes in -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Parents:
    """The adapters that are merged: of each, by module, what it changes."""

    folders: tuple[Path, ...]
    bases: tuple[str, ...]
    changes: tuple[Mapping[str, Change], ...]
    shapes: Mapping[str, tuple[int, int]]
    """Of every module that any of them changes: `(out, in)`."""

    @classmethod
    def read(cls, folders: Sequence[Path]) -> Parents:
        """Read adapter folders.

        Raises:
            ModelError: one that is not plain LoRA, or shapes that differ: not of one base.
            WeightsError: numbers that are not finite; names the module.
        """
        changes = tuple(map(_read, folders))
        shapes: dict[str, tuple[int, int]] = {}
        for folder, change in zip(folders, changes, strict=True):
            for module, own in change.items():
                shape = (len(own.b), own.a.shape[1])
                if shapes.setdefault(module, shape) != shape:
                    raise ModelError(
                        f"the adapters are not of one base: {module} differs in {folder}",
                        found=f"{shape[0]} x {shape[1]}, {shapes[module][0]} x {shapes[module][1]} "
                        "before",
                        fix="merge adapters that were trained on the same model",
                    )
        return cls(tuple(folders), _base_names(folders), changes, dict(sorted(shapes.items())))

    @property
    def base(self) -> ModelRef:
        """The base as the first of them names it; an adapter folder knows no more of it."""
        return ModelRef(name=self.bases[0], origin="folder", digest="")

    def deltas(self, module: str) -> list[Tensor]:
        """What each adds to a module's weight, `[out, in]`, float32."""
        return [
            adapters.delta(own[module].a, own[module].b, own[module].scale)
            if module in own
            else NO_BASE.expand(self.shapes[module])
            for own in self.changes
        ]


def _read(folder: Path) -> dict[str, Change]:
    spec, tensors = adapters.read(folder)
    if spec.dora:
        raise ModelError(
            f"the adapter in {folder} is DoRA: what it adds depends on its base's weights",
            found="lora_magnitude_vector",
            fix="merge each adapter into its base, then merge these models",
        )
    wrong = sorted(name for name, tensor in tensors.items() if not tensor.isfinite().all())
    if wrong:
        raise WeightsError(f"the adapter in {folder} holds no numbers", found=", ".join(wrong[:3]))
    changes = read_changes({name: tensor.float() for name, tensor in tensors.items()}, spec)
    return {name.removesuffix(".weight"): change for name, change in changes.items()}


def _base_names(folders: Sequence[Path]) -> tuple[str, ...]:
    """What each calls its base; empty where it does not say."""
    configs = [json.loads((folder / adapters.CONFIG).read_bytes()) for folder in folders]
    return tuple(str(config.get("base_model_name_or_path") or "") for config in configs)


def _tell_bases(parents: Parents) -> None:
    """A name is no proof: one model has several, and the shapes have been compared."""
    if len(set(parents.bases)) > 1:
        named = zip(parents.folders, parents.bases, strict=True)
        told = ", ".join(f"{folder.name}: {name or 'none'}" for folder, name in named)
        emit("note", text=f"the adapters name their base differently ({told}): be sure it is one")


# -- what comes out ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Factors:
    """A merged change `B A`: A `[rank, in]`, B `[out, rank]`, and its relative error."""

    a: Tensor
    b: Tensor
    error: float = 0.0


def _factors(
    parents: Parents, module: str, method: Method, options: Options, rank: int | None
) -> Factors:
    """One module's merged change, of at most that rank."""
    own = [changes.get(module) for changes in parents.changes]
    ranks = sum(len(change.a) for change in own if change is not None)
    weights = _sum_weights(parents, module, method, options)
    if weights is None:
        return _nearest(_combined(parents, module, method, options), rank or ranks, module)
    pairs = [(c, weight) for c, weight in zip(own, weights, strict=True) if c is not None]
    a = torch.cat([change.a for change, _ in pairs])
    b = torch.cat([change.b * (change.scale * weight) for change, weight in pairs], 1)
    return Factors(a, b) if rank is None or ranks <= rank else _shortened(a, b, rank, module)


def _sum_weights(
    parents: Parents, module: str, method: Method, options: Options
) -> tuple[float, ...] | None:
    """What each change is multiplied with; None: the method is more than a weighted sum."""
    if method == "slerp":
        first, second = (delta.reshape(-1) for delta in parents.deltas(module))
        return slerp_factors(first, second, options.t)
    if method in ("linear", "task_arithmetic", "passthrough"):
        return coefficients(method, options)
    return None


def _combined(parents: Parents, module: str, method: Method, options: Options) -> Tensor:
    """The merged change as a whole matrix, `[out, in]`, as a merge of models computes it."""
    base = NO_BASE.expand(parents.shapes[module])
    return combine(method, parents.deltas(module), base, options, name=f"{module}.weight")


def _shortened(a: Tensor, b: Tensor, rank: int, module: str) -> Factors:
    """The nearest of `rank` to the product B A, without making it.

    With `B = Q R` and `A^T = P S`, the singular values of B A are those of the small `R S^T`.
    """
    _require_finite(module, a, b)
    q, r = torch.linalg.qr(b)
    p, s = torch.linalg.qr(a.T)
    small = _nearest(r @ s.T, rank, module)
    return Factors(small.a @ p.T, q @ small.b, small.error)


def _nearest(matrix: Tensor, rank: int, module: str) -> Factors:
    """The nearest matrix of `rank`, in factors of equal strength: `U sqrt(S)` and `sqrt(S) V^T`.

    A large matrix has its leading singular vectors found by randomised subspace iteration, which
    comes within a hundredth of the smallest error (Halko et al. 2011, arXiv:0909.4061). The error
    that is told is that of the factors, whatever found them.
    """
    _require_finite(module, matrix)
    wanted = min(rank + OVERSAMPLED, *matrix.shape)
    if 4 * wanted >= min(matrix.shape):
        u, strengths, vt = torch.linalg.svd(matrix, full_matrices=False)
    else:
        with torch.random.fork_rng(devices=[]):  # svd_lowrank takes no generator of its own
            torch.manual_seed(0)
            u, strengths, v = torch.svd_lowrank(matrix, q=wanted, niter=POWER_ITERATIONS)
        vt = v.T
    root = strengths[:rank].sqrt()
    b, a = u[:, :rank] * root, root[:, None] * vt[:rank]
    return Factors(a, b, _relative(matrix, b @ a))


def _relative(wanted: Tensor, found: Tensor) -> float:
    """`|wanted - found| / |wanted|`; where nothing is wanted, |found|."""
    length = float(wanted.norm())
    return float((wanted - found).norm()) / (length or 1.0)


def _require_finite(module: str, *tensors: Tensor) -> None:
    if not all(bool(tensor.isfinite().all()) for tensor in tensors):
        raise WeightsError(f"the merged change of {module} is too large for float32")


def _write(folder: Path, factors: Mapping[str, Factors], base: ModelRef) -> None:
    """The adapter's files; every module is named in full, so that no other gets an empty adapter.

    alpha is the rank, so each scale is 1: the scales are in the factors.
    """
    ranks = {module: len(factor.a) for module, factor in factors.items()}
    rank = Counter(ranks.values()).most_common(1)[0][0]
    others = {f"^{re.escape(m)}": own for m, own in ranks.items() if own != rank}
    spec = LoraSpec(
        rank=rank,
        alpha=float(rank),
        target_modules=tuple(ranks),
        rank_pattern=others,
        alpha_pattern={pattern: float(own) for pattern, own in others.items()},
    )
    tensors = [tensor for factor in factors.values() for tensor in (factor.a, factor.b)]
    state = dict(zip(adapters.tensor_names(factors, spec), tensors, strict=True))
    adapters.write(folder, state, spec, base)


# -- the proof -----------------------------------------------------------------------------------


def prove(
    folder: Path,
    parents: Parents,
    method: Method,
    options: Options,
    errors: Mapping[str, float],
    bar: Progress,
) -> Parity:
    """Read a written adapter again, and compare each change with that of whole matrices.

    Whole matrices are how models are merged, and another way than that of the written factors.
    `errors` are what was stated to be lost, by module.
    """
    spec, tensors = adapters.read(folder)
    wrong = sorted(name for name, tensor in tensors.items() if not tensor.isfinite().all())
    written = {n.removesuffix(".weight"): c for n, c in read_changes(tensors, spec).items()}
    off, squares = {}, [0.0] * (1 + len(parents.folders))
    for module in parents.shapes:
        found = adapters.delta(written[module].a, written[module].b, written[module].scale)
        combined = _combined(parents, module, method, options)
        off[module] = abs(_relative(combined, found) - errors[module])
        for place, delta in enumerate([found, *parents.deltas(module)]):
            squares[place] += float(delta.square().sum())
        bar.advance()
    far = {module: value for module, value in off.items() if not value <= DELTA_LIMIT}
    acts = math.sqrt(squares[0] / (max(squares[1:]) or 1.0))
    checks = (
        Check("finite", not wrong, wrong[:3] or "all", "all numbers"),
        Check("deltas", not far, far or max(off.values()), DELTA_LIMIT),
        Check("adapter_acts", acts >= ACTS_FLOOR, acts, ACTS_FLOOR),
    )
    return Parity(
        checks,
        _facts(parents, method, options, errors),
        refusal="the merged adapter is not what its parents combine to",
        fix="nothing was kept; look at the weights, or report this",
    )


def _facts(
    parents: Parents, method: Method, options: Options, errors: Mapping[str, float]
) -> dict[str, Any]:
    """Who was merged and how, and what a limited rank lost."""
    named = zip(parents.folders, parents.bases, strict=True)
    return {
        "method": method,
        "options": asdict(options),
        "adapters": [
            {"name": f.name, "base": base, "sha256": sha256_file(f / adapters.WEIGHTS)}
            for f, base in named
        ],
        "modules": len(errors),
        "largest_error": max(errors.values()),
        "mean_error": statistics.mean(errors.values()),
    }
