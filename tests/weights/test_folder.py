from __future__ import annotations

import json
from pathlib import Path

from nexa.weights.folder import tied_names, write_config, write_generation_config
from tests.support.tiny import write_tiny_model


def written(base: Path, out: Path, stop_ids: tuple[int, ...]) -> dict[str, object]:
    write_generation_config(base, out, stop_ids=stop_ids)
    found = json.loads((out / "generation_config.json").read_bytes())
    assert isinstance(found, dict)
    return found


def test_generation_keeps_what_the_base_says_and_stops_at_the_end_of_turn(tmp_path: Path) -> None:
    base, out = tmp_path / "base", tmp_path / "out"
    base.mkdir()
    out.mkdir()
    (base / "generation_config.json").write_text('{"eos_token_id": [0], "temperature": 0.7}')

    assert written(base, out, (2, 0)) == {"eos_token_id": [0, 2], "temperature": 0.7}


def test_without_a_generation_config_the_model_config_names_the_tokens(tmp_path: Path) -> None:
    base, out = tmp_path / "base", tmp_path / "out"
    base.mkdir()
    out.mkdir()
    (base / "config.json").write_text('{"bos_token_id": 1, "eos_token_id": null, "hidden_size": 8}')

    assert written(base, out, (2,)) == {"bos_token_id": 1, "eos_token_id": 2}


def test_the_config_says_the_stored_type_and_drops_what_is_stale(tmp_path: Path) -> None:
    config = {"torch_dtype": "float32", "quantization_config": {}, "hidden_size": 8}

    write_config(config, tmp_path, dtype="bfloat16", tie=False)

    assert json.loads((tmp_path / "config.json").read_bytes()) == {
        "hidden_size": 8,
        "dtype": "bfloat16",
        "tie_word_embeddings": False,
    }


def test_a_model_without_tied_embeddings_ties_nothing(tmp_path: Path, tiny_llama: Path) -> None:
    assert tied_names(write_tiny_model(tmp_path / "untied", tied=False)) == {}
    assert tied_names(tiny_llama) == {"lm_head.weight": "model.embed_tokens.weight"}
