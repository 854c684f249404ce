from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from nexa.core.errors import ModelError
from nexa.lm import adapters
from nexa.lm.adapters import CONFIG, WEIGHTS, LoraSpec
from tests.lm.adapters.twins import BASE, KINDS, SPEC, stirred
from tests.support.tiny import tiny_model


@pytest.fixture
def written(tmp_path: Path) -> Path:
    adapters.write(tmp_path, stirred(tiny_model()).state(), SPEC, BASE)
    return tmp_path


@pytest.fixture
def written_dora(tmp_path: Path) -> Path:
    adapters.write(tmp_path, stirred(tiny_model(), KINDS["dora"]).state(), KINDS["dora"], BASE)
    return tmp_path


def change(folder: Path, **settings: Any) -> None:
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**config, **settings}))


def test_a_round_trip_keeps_every_bit(tmp_path: Path) -> None:
    spec = LoraSpec(4, 8.0, 0.1, ("q_proj", "layers.1.mlp.down_proj"))
    lora = stirred(tiny_model(), spec)
    adapters.write(tmp_path, lora.state(), spec, BASE)
    read, tensors = adapters.read(tmp_path)
    assert read.target_modules == ("layers.1.mlp.down_proj", "q_proj")
    assert (read.rank, read.alpha, read.dropout) == (4, 8.0, 0.1)
    assert tensors.keys() == lora.state().keys()
    assert all(torch.equal(tensors[name], t) for name, t in lora.state().items())


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_what_kind_it_is_comes_back(kind: str, tmp_path: Path) -> None:
    spec = KINDS[kind]
    adapters.write(tmp_path, stirred(tiny_model(), spec).state(), spec, BASE)
    read, _ = adapters.read(tmp_path)
    assert read.variant == spec.variant
    assert (read.rank_pattern, read.alpha_pattern) == (spec.rank_pattern, spec.alpha_pattern)
    name = "model.layers.1.mlp.up_proj"
    assert read.scale_of(name) == spec.scale_of(name)


def test_the_optimisers_ratio_is_not_the_adapters(tmp_path: Path) -> None:
    state = stirred(tiny_model()).state()
    adapters.write(tmp_path / "a", state, SPEC, BASE)
    adapters.write(tmp_path / "b", state, LoraSpec(4, 8.0, plus_ratio=16.0), BASE)
    assert (tmp_path / "a" / CONFIG).read_bytes() == (tmp_path / "b" / CONFIG).read_bytes()


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_equal_states_are_equal_bytes(kind: str, tmp_path: Path) -> None:
    spec = KINDS[kind]
    state = stirred(tiny_model(), spec).state()
    adapters.write(tmp_path / "a", state, spec, BASE)
    adapters.write(tmp_path / "b", dict(reversed(state.items())), spec, BASE)
    for file in (WEIGHTS, CONFIG):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_a_pickle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "adapter_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(ModelError, match="a pickle"):
        adapters.read(tmp_path)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="holds no adapter_model"):
        adapters.read(tmp_path)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"use_dora": True}, "lora_magnitude_vector"),
        ({"peft_type": "LOHA"}, "LOHA"),
        ({"bias": "all"}, "bias"),
        ({"alora_invocation_tokens": [5]}, "alora_invocation_tokens"),
        ({"use_qalora": True}, "use_qalora"),
        ({"layer_replication": [[0, 1], [0, 2]]}, "layer_replication"),
    ],
)
def test_another_thing_of_the_same_tensors_is_refused_by_name(
    written: Path, settings: dict[str, Any], named: str
) -> None:
    change(written, **settings)
    with pytest.raises(ModelError, match=named):
        adapters.read(written)


def test_magnitudes_of_an_adapter_that_is_said_to_have_none_are_refused(
    written_dora: Path,
) -> None:
    change(written_dora, use_dora=False)
    with pytest.raises(ModelError, match="lora_magnitude_vector"):
        adapters.read(written_dora)


def test_settings_that_are_only_empty_another_way_are_plain(written: Path) -> None:
    change(written, modules_to_save=[], rank_pattern=None, use_dora=None)
    assert adapters.read(written)[0].variant is None


def test_which_layers_were_chosen_is_told_by_the_tensors(written: Path) -> None:
    change(written, layers_to_transform=[0, 1])
    adapters.read(written)


@pytest.mark.parametrize("settings", [{"r": 8}, {"rank_pattern": {"up_proj": 2}}])
def test_a_rank_that_the_tensors_do_not_have_is_refused(
    written: Path, settings: dict[str, Any]
) -> None:
    """It is part of the scale: the answers would be others, without a word."""
    change(written, **settings)
    with pytest.raises(ModelError, match="another rank than its adapter_config"):
        adapters.read(written)


@pytest.mark.parametrize("given", ["all-linear", r".*\.q_proj"])
def test_targets_may_be_one_text(written: Path, given: str) -> None:
    change(written, target_modules=given)
    assert adapters.read(written)[0].target_modules == given


@pytest.mark.parametrize("text", ["{", "{}", "[]"])
def test_a_broken_config_is_refused(written: Path, text: str) -> None:
    (written / CONFIG).write_text(text)
    with pytest.raises(ModelError, match="cannot read the adapter"):
        adapters.read(written)


@pytest.mark.parametrize("pattern", [{"(": 2}, [1]])
def test_a_broken_pattern_is_refused(written: Path, pattern: object) -> None:
    change(written, rank_pattern=pattern)
    with pytest.raises(ModelError, match="cannot read the adapter"):
        adapters.read(written)


def test_broken_weights_are_refused(written: Path) -> None:
    (written / WEIGHTS).write_bytes(b"not tensors")
    with pytest.raises(ModelError, match="cannot read the adapter"):
        adapters.read(written)


@pytest.mark.parametrize("side", ["lora_B", "lora_magnitude_vector"])
def test_half_an_adapter_is_refused(written_dora: Path, side: str) -> None:
    tensors = load_file(written_dora / WEIGHTS)
    tensors.pop(next(name for name in tensors if side in name))
    save_file(tensors, written_dora / WEIGHTS)
    with pytest.raises(ModelError, match=side):
        adapters.read(written_dora)


def test_an_adapter_without_tensors_is_refused(written: Path) -> None:
    save_file({}, written / WEIGHTS)
    with pytest.raises(ModelError, match="no tensors"):
        adapters.read(written)
