"""Adapters merged: what is written against whole matrices in numpy, and loaded by PEFT."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from nexa.core.errors import ModelError, ParityError, StorageError, UsageError, WeightsError
from nexa.core.events import Progress, listening
from nexa.core.records import ModelRef
from nexa.lm import adapters
from nexa.lm.adapters import LoraSpec
from nexa.lm.resolve import ModelFiles
from nexa.weights.merge_models.adapters import (
    DELTA_LIMIT,
    MergedAdapters,
    Parents,
    merge_adapters,
    prove,
)
from nexa.weights.merge_models.methods import Method, Options, mask_generator
from tests.support import chain

Matrix = NDArray[np.float64]

BASE = ModelRef(name="tiny", origin="folder", digest="0" * 64)
Q, K, HEAD = "model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.k_proj", "lm_head"
OUT_IN = {Q: (12, 10), K: (6, 10), HEAD: (20, 10)}
HALF = Options(weights=(0.75, 0.5), densities=(0.5, 0.7), t=0.3, normalize=False, seed=5)


@dataclass
class Written:
    """An adapter folder, and what it adds to each module."""

    folder: Path
    deltas: dict[str, Matrix]

    def delta(self, module: str) -> Matrix:
        """Zeros where it has no such module."""
        return self.deltas.get(module, np.zeros(OUT_IN[module]))

    def edit(self, **fields: Any) -> None:
        """Change adapter_config.json."""
        path = self.folder / adapters.CONFIG
        path.write_text(json.dumps(json.loads(path.read_bytes()) | fields))


def write(
    folder: Path,
    spec: LoraSpec,
    *modules: str,
    seed: int,
    base: ModelRef = BASE,
    out_in: dict[str, tuple[int, int]] = OUT_IN,
) -> Written:
    generator = torch.Generator().manual_seed(seed)
    state, deltas = {}, {}
    for module in modules:
        rank = spec.rank_of(module)
        a = torch.randn(rank, out_in[module][1], generator=generator)
        b = torch.randn(out_in[module][0], rank, generator=generator)
        state |= dict(zip(adapters.tensor_names([module], spec), (a, b), strict=False))
        deltas[module] = spec.scale_of(module) * (b.double() @ a.double()).numpy()
    adapters.write(folder, state, replace(spec, target_modules=modules), base)
    return Written(folder, deltas)


@pytest.fixture
def first(tmp_path: Path) -> Written:
    return write(tmp_path / "first", LoraSpec(rank=2, alpha=3.0), Q, K, seed=0)


@pytest.fixture
def second(tmp_path: Path) -> Written:
    """Of another rank, another scale and other modules, the output head among them."""
    return write(tmp_path / "second", LoraSpec(rank=3, alpha=5.0, rslora=True), Q, HEAD, seed=1)


def merge(
    *given: Written, method: Method, options: Options = HALF, rank: int | None = None
) -> tuple[MergedAdapters, Path]:
    out = given[0].folder.parent / "merged" / method
    return merge_adapters([one.folder for one in given], method, options, out, rank=rank), out


def read(folder: Path) -> dict[str, Matrix]:
    """What a written adapter adds, from its files alone."""
    spec, tensors = adapters.read(folder)
    found = {}
    for module in adapters.module_names(tensors):
        a, b = (tensors[name].double().numpy() for name in adapters.tensor_names([module], spec))
        found[module] = spec.scale_of(module) * (b @ a)
    return found


def loss(wanted: Matrix, found: Matrix) -> float:
    return float(np.linalg.norm(wanted - found) / np.linalg.norm(wanted))


def smallest_loss(matrix: Matrix, rank: int) -> float:
    strengths = np.linalg.svd(matrix, compute_uv=False)
    return float(np.linalg.norm(strengths[rank:]) / np.linalg.norm(strengths))


def small_ranks_loss(merged: MergedAdapters, wanted: dict[str, Matrix], folder: Path) -> None:
    """Every module's loss is the smallest of its rank, and is what was stated."""
    found = read(folder)
    for module, matrix in wanted.items():
        best = smallest_loss(matrix, merged.ranks[module])
        assert loss(matrix, found[module]) == pytest.approx(best, abs=1e-5)
        assert merged.errors[module] == pytest.approx(best, abs=1e-5)


# -- weighted sums -------------------------------------------------------------------------------


def test_linear_and_task_arithmetic_are_exact_over_unlike_ranks_scales_and_modules(
    first: Written, second: Written
) -> None:
    for method, options, weights in (
        ("linear", replace(HALF, normalize=True), (0.6, 0.4)),
        ("task_arithmetic", replace(HALF, scale=2.0), (1.5, 1.0)),
    ):
        merged, folder = merge(first, second, method=method, options=options)  # type: ignore[arg-type]

        for module, found in read(folder).items():
            wanted = weights[0] * first.delta(module) + weights[1] * second.delta(module)
            assert loss(wanted, found) < 1e-6
        assert merged.ranks == {Q: 5, K: 2, HEAD: 3}
        assert merged.rank == 5
        assert set(merged.errors.values()) == {0.0}


def test_slerp_turns_one_change_into_the_other_exactly(first: Written, second: Written) -> None:
    _, folder = merge(first, second, method="slerp")

    x, y = first.delta(Q), second.delta(Q)
    angle = math.acos((x * y).sum() / np.linalg.norm(x) / np.linalg.norm(y))
    turned = (math.sin(0.7 * angle) * x + math.sin(0.3 * angle) * y) / math.sin(angle)
    found = read(folder)
    assert loss(turned, found[Q]) < 1e-6
    # A module that only one adapter changes meets a zero vector, which is orthogonal to it.
    assert loss(math.sin(0.7 * math.pi / 2) * first.delta(K), found[K]) < 1e-6


def test_one_adapter_is_made_smaller_by_passing_it_through(first: Written) -> None:
    merged, folder = merge(first, method="passthrough", rank=1)
    assert set(merged.ranks.values()) == {1}
    small_ranks_loss(merged, first.deltas, folder)


def test_a_rank_that_is_asked_for_is_kept_where_it_is_enough_and_else_the_nearest_is_found(
    first: Written, second: Written
) -> None:
    merged, folder = merge(first, second, method="task_arithmetic", rank=3)

    assert merged.ranks == {Q: 3, K: 2, HEAD: 3}
    assert (merged.errors[K], merged.errors[HEAD]) == (0.0, 0.0)
    wanted = {m: 0.75 * first.delta(m) + 0.5 * second.delta(m) for m in OUT_IN}
    small_ranks_loss(merged, wanted, folder)
    assert merged.errors[Q] > 0.05


# -- sparse changes ------------------------------------------------------------------------------


def slow_ties(given: tuple[Written, Written], module: str) -> Matrix:
    kept = []
    for one, density in zip(given, HALF.densities, strict=True):
        flat = one.delta(module).reshape(-1)
        order = np.argsort(-np.abs(flat), kind="stable")[: int(density * flat.size)]
        mask = np.zeros(flat.size)
        mask[order] = 1
        kept.append((flat * mask).reshape(OUT_IN[module]))
    pulls = np.stack([w * delta for w, delta in zip(HALF.weights, kept, strict=True)])
    elected = np.where(pulls.sum(0) >= 0, 1, -1)
    merged: Matrix = np.where(np.sign(pulls) == elected, pulls, 0).sum(0)
    return merged


def test_ties_of_changes_is_written_whole_where_the_rank_allows(
    first: Written, second: Written
) -> None:
    merged, folder = merge(first, second, method="ties", rank=100)
    for module, found in read(folder).items():
        assert loss(slow_ties((first, second), module), found) < 1e-5
        assert merged.ranks[module] == min(OUT_IN[module])


def test_ties_of_a_limited_rank_loses_no_more_than_it_must_and_says_so(
    first: Written, second: Written
) -> None:
    heard: list[dict[str, Any]] = []
    with listening(heard.append):
        merged, folder = merge(first, second, method="ties")
    assert merged.ranks == {Q: 5, K: 2, HEAD: 3}  # as many as their parents have together
    small_ranks_loss(merged, {m: slow_ties((first, second), m) for m in OUT_IN}, folder)
    (note,) = [event["text"] for event in heard if event["kind"] == "note"]
    assert note.startswith("the merged adapter's rank does not hold all of the change: ")


def test_dare_drops_by_module_name_and_seed(first: Written, second: Written) -> None:
    _, folder = merge(first, second, method="dare_linear", rank=100)

    for module, found in read(folder).items():
        wanted = np.zeros(OUT_IN[module])
        pairs = zip((first, second), HALF.weights, HALF.densities, strict=True)
        for place, (one, weight, density) in enumerate(pairs):
            generator = mask_generator(HALF.seed, place, f"{module}.weight")
            mask = (torch.rand(OUT_IN[module], generator=generator) < density).numpy()
            wanted += weight * mask * one.delta(module) / density
        assert loss(wanted, found) < 1e-5


def test_a_large_matrix_is_factorised_nearly_as_well_as_it_can_be(tmp_path: Path) -> None:
    """By a randomised search that leaves the user's own random numbers alone."""
    large = {Q: (200, 150)}
    spec = LoraSpec(rank=2, alpha=2.0)
    given = [write(tmp_path / str(i), spec, Q, seed=i, out_in=large) for i in range(2)]
    before = torch.get_rng_state()

    merged, folder = merge(*given, method="ties")

    assert torch.equal(torch.get_rng_state(), before)
    zipped = zip(given, HALF.densities, strict=True)
    kept = [np.where(abs(g.deltas[Q]) >= _cut(g.deltas[Q], d), g.deltas[Q], 0) for g, d in zipped]
    pulls = np.stack([w * delta for w, delta in zip(HALF.weights, kept, strict=True)])
    wanted = np.where(np.sign(pulls) == np.where(pulls.sum(0) >= 0, 1, -1), pulls, 0).sum(0)
    assert merged.ranks == {Q: 4}
    assert loss(wanted, read(folder)[Q]) <= 1.01 * smallest_loss(wanted, 4)
    again = merge_adapters([g.folder for g in given], "ties", HALF, tmp_path / "again")
    assert again == merged
    for name in (adapters.WEIGHTS, adapters.CONFIG):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


def _cut(delta: Matrix, density: float) -> float:
    return float(np.sort(abs(delta).reshape(-1))[-int(density * delta.size)])


# -- what others read ----------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")
def test_peft_loads_a_merged_adapter_as_the_sum_of_its_parents(
    base: ModelFiles, tmp_path: Path
) -> None:
    attention = LoraSpec(rank=4, alpha=8.0, target_modules=("q_proj", "v_proj"))
    layer = LoraSpec(rank=2, alpha=6.0, target_modules=("model.layers.1.mlp.up_proj", "q_proj"))
    parents = [
        chain.random_adapter(base, tmp_path / str(i), seed=i, spec=spec)
        for i, spec in enumerate((attention, layer))
    ]
    options = Options(weights=(1.0, 0.5), normalize=False)

    merge_adapters(parents, "task_arithmetic", options, tmp_path / "merged", base=base.ref)

    ids = torch.arange(3, 60)[None]
    model = AutoModelForCausalLM.from_pretrained(base.folder, dtype=torch.float32)
    with torch.no_grad():
        plain = model(ids).logits
        for folder, weight in zip(parents, options.weights, strict=True):
            for module, delta in read(folder).items():
                place = model.get_submodule(module).weight
                place.add_(torch.from_numpy(delta).float(), alpha=weight)
        wanted = model(ids).logits
        fresh = AutoModelForCausalLM.from_pretrained(base.folder, dtype=torch.float32)
        found = PeftModel.from_pretrained(fresh, tmp_path / "merged")(ids).logits
    assert (wanted - plain).abs().max() > 100 * (wanted - found).abs().max()
    assert torch.allclose(found, wanted, atol=1e-5)
    config = json.loads((tmp_path / "merged" / adapters.CONFIG).read_bytes())
    assert config["base_model_name_or_path"] == base.ref.name
    assert "model.layers.0.mlp.up_proj" not in config["target_modules"]


def test_the_proof_lies_beside_the_adapter_with_what_it_was_made_of(
    first: Written, second: Written
) -> None:
    merged, folder = merge(first, second, method="linear")
    proof = json.loads((folder / "parity.json").read_bytes())
    assert proof == json.loads(json.dumps(merged.parity.to_json()))
    assert proof["passed"]
    assert [check["name"] for check in proof["checks"]] == ["finite", "deltas", "adapter_acts"]
    assert (proof["method"], proof["options"]["weights"]) == ("linear", [0.75, 0.5])
    assert [parent["name"] for parent in proof["adapters"]] == ["first", "second"]
    assert sorted(path.name for path in folder.iterdir()) == [
        adapters.CONFIG,
        adapters.WEIGHTS,
        "parity.json",
    ]
    assert [path.name for path in folder.parent.iterdir()] == ["linear"]


@pytest.mark.parametrize(
    ("value", "failing"), [(math.nan, {"finite", "deltas", "adapter_acts"}), (1e3, {"deltas"})]
)
def test_a_spoiled_adapter_fails_its_proof_by_name(
    first: Written, second: Written, value: float, failing: set[str]
) -> None:
    merged, folder = merge(first, second, method="linear")
    tensors = load_file(folder / adapters.WEIGHTS)
    tensors[f"{adapters.PREFIX}{Q}.lora_B.weight"][0, 0] = value
    save_file(tensors, folder / adapters.WEIGHTS)

    parents = Parents.read([first.folder, second.folder])
    parity = prove(folder, parents, "linear", HALF, merged.errors, Progress("", 3, ""))

    assert {check.name for check in parity.checks if not check.passed} == failing
    (deltas,) = [check for check in parity.checks if check.name == "deltas"]
    assert (list(deltas.value), deltas.limit) == ([Q], DELTA_LIMIT)


# -- notes and refusals --------------------------------------------------------------------------


def test_bases_of_unlike_names_are_told(first: Written, tmp_path: Path) -> None:
    other = write(tmp_path / "other", LoraSpec(rank=2), Q, seed=1)
    other.edit(base_model_name_or_path=None)
    heard: list[dict[str, Any]] = []
    with listening(heard.append):
        _, folder = merge(first, other, method="linear")
    (note,) = [event["text"] for event in heard if event["kind"] == "note"]
    assert "(first: tiny, other: none)" in note
    config = json.loads((folder / adapters.CONFIG).read_bytes())
    assert config["base_model_name_or_path"] == "tiny"


def test_adapters_that_are_not_plain_lora_are_refused_by_name(
    first: Written, second: Written, base: ModelFiles, tmp_path: Path
) -> None:
    dora = chain.random_adapter(base, tmp_path / "dora", spec=LoraSpec(rank=2, dora=True))
    with pytest.raises(ModelError, match="dora is DoRA"):
        merge(first, Written(dora, {}), method="linear")
    second.edit(modules_to_save=["lm_head"])
    with pytest.raises(ModelError, match="not plain LoRA") as refused:
        merge(first, second, method="linear")
    assert refused.value.found == "modules_to_save: ['lm_head']"


def test_adapters_of_unlike_bases_are_refused_by_module(first: Written, tmp_path: Path) -> None:
    wide = write(tmp_path / "wide", LoraSpec(rank=2), K, Q, seed=1, out_in={K: (6, 10), Q: (9, 9)})
    with pytest.raises(ModelError, match=f"{Q} differs in {wide.folder}") as refused:
        merge(first, wide, method="linear")
    assert refused.value.found == "9 x 9, 12 x 10 before"


def test_an_adapter_that_holds_no_numbers_is_refused(first: Written, second: Written) -> None:
    tensors = load_file(second.folder / adapters.WEIGHTS)
    name = f"{adapters.PREFIX}{HEAD}.lora_A.weight"
    tensors[name][0, 0] = math.inf
    save_file(tensors, second.folder / adapters.WEIGHTS)
    with pytest.raises(WeightsError, match="holds no numbers") as refused:
        merge(first, second, method="linear")
    assert refused.value.found == name


@pytest.mark.parametrize("method", ["ties", "task_arithmetic"])
def test_a_change_too_large_for_float32_is_refused(
    first: Written, second: Written, method: Method
) -> None:
    huge = replace(HALF, weights=(1e38, 1e38))
    with pytest.raises(WeightsError, match="too large for float32"):
        merge(first, second, method=method, options=huge, rank=1)
    assert list((first.folder.parent / "merged").iterdir()) == []


def test_adapters_that_cancel_each_other_out_leave_nothing(first: Written, tmp_path: Path) -> None:
    options = Options(weights=(1.0, -1.0), normalize=False)
    with pytest.raises(ParityError, match="adapter_acts"):
        merge(first, first, method="task_arithmetic", options=options, rank=1)
    assert list((tmp_path / "merged").iterdir()) == []


def test_numbers_and_places_that_cannot_be_taken_are_refused(
    first: Written, second: Written, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="slerp takes 2 models"):
        merge(first, method="slerp")
    with pytest.raises(UsageError, match="rank is at least 1"):
        merge(first, second, method="linear", rank=0)
    folders = [first.folder, second.folder]
    with pytest.raises(UsageError, match="exists already"):
        merge_adapters(folders, "linear", HALF, tmp_path / "first")
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot write"):
        merge_adapters(folders, "linear", HALF, tmp_path / "file" / "merged")
