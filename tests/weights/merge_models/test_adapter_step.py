from __future__ import annotations

import gc
import json
from pathlib import Path
from typing import Any

import pytest

from nexa.core.errors import ModelError, UsageError
from nexa.core.identity import sha256_file
from nexa.core.records import AdoptedBody, Artifact
from nexa.core.store import Store
from nexa.lm import adapters
from nexa.lm.adapters import LoraSpec
from nexa.lm.resolve import ModelFiles, resolve
from nexa.weights.merge_models.adapter_step import MergeAdaptersSpec, merge_sealed_adapters
from nexa.weights.merge_models.methods import Options
from tests.support.chain import checkpoint_draft, seal
from tests.support.foreign import full_model

HALF = Options(weights=(0.5, 0.5), normalize=False)


@pytest.fixture
def base(tiny_llama: Path) -> ModelFiles:
    return resolve(str(tiny_llama))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def sealed(store: Store, base: ModelFiles, folder: Path, spec: LoraSpec) -> Artifact[Any]:
    draft = checkpoint_draft(base, folder, spec=spec, rank=spec.rank, alpha=spec.alpha)
    return seal(store, "finetune", draft, base)


@pytest.fixture
def parents(store: Store, base: ModelFiles, tmp_path: Path) -> dict[str, Artifact[Any]]:
    """A checkpoint on all layers, and one of another rank on two of them."""
    some = LoraSpec(rank=2, alpha=2.0, target_modules=("q_proj", "v_proj"))
    return {
        "parent1": sealed(store, base, tmp_path / "one", LoraSpec(rank=4, alpha=8.0)),
        "parent2": sealed(store, base, tmp_path / "two", some),
    }


def test_the_record_tells_recipe_proof_and_every_rank(
    store: Store, base: ModelFiles, parents: dict[str, Artifact[Any]], tmp_path: Path
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    spec = MergeAdaptersSpec(base, "linear", HALF, name="both", scratch=scratch)
    draft = merge_sealed_adapters(spec, store=store, **parents)
    body = draft.body
    assert (draft.kind, draft.name) == ("adopted", "both")
    assert (body.rank, body.ranks, body.alphas) == (6, [4, 6], [4.0, 6.0])
    assert body.base == base.ref
    assert {"q_proj", "down_proj"} <= set(body.target_modules)
    assert body.recipe is not None
    assert body.recipe["weights"] == [0.5, 0.5]
    assert body.parity is not None
    assert body.parity["passed"]
    assert set(draft.files) == {adapters.WEIGHTS, adapters.CONFIG, "parity.json"}
    weights = draft.files[adapters.WEIGHTS]
    assert isinstance(weights, Path)
    assert body.weights_sha256 == sha256_file(weights)
    # A record of a model that was only found keeps the digest that it had.
    plain = body.model_copy(update={"recipe": None, "parity": None})
    assert {"recipe", "parity"}.isdisjoint(plain.model_dump(mode="json"))
    again = AdoptedBody.model_validate(json.loads(body.model_dump_json()))
    assert again.model_dump_json() == body.model_dump_json()
    del draft, weights
    gc.collect()
    assert list(scratch.iterdir()) == []


def test_the_same_ranks_everywhere_are_one_number(
    store: Store, base: ModelFiles, parents: dict[str, Artifact[Any]]
) -> None:
    spec = MergeAdaptersSpec(base, "linear", HALF, rank=2)
    draft = merge_sealed_adapters(spec, store=store, **parents)
    assert (draft.body.rank, draft.body.ranks, draft.body.alphas) == (2, None, None)


def test_an_adapter_of_another_base_is_refused(
    store: Store, base: ModelFiles, parents: dict[str, Artifact[Any]], tmp_path: Path
) -> None:
    other = resolve(str(full_model(tmp_path / "other", base.folder)))
    with pytest.raises(ModelError, match="does not belong on other") as refused:
        merge_sealed_adapters(MergeAdaptersSpec(other, "linear", HALF), store=store, **parents)
    assert base.digest[:16] in str(refused.value.found)


def test_what_fails_leaves_nothing_behind(
    store: Store, base: ModelFiles, parents: dict[str, Artifact[Any]], tmp_path: Path
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    spec = MergeAdaptersSpec(base, "slerp", Options(t=0.5), rank=0, scratch=scratch)
    with pytest.raises(UsageError, match="rank is at least 1"):
        merge_sealed_adapters(spec, store=store, **parents)
    assert list(scratch.iterdir()) == []
