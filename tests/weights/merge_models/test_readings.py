from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from nexa.core.errors import ModelError
from nexa.lm.resolve import ModelFiles, resolve
from nexa.weights.merge_models.readings import read_models, read_texts
from tests.support.tiny import ARCHITECTURES, tiny_tokenizer, write_tiny_model
from tests.weights.merge_models import made

TEXTS = [[5, 6, 7, 8, 9], [11, 12, 13]]


def by_transformers(folder: Path) -> tuple[torch.Tensor, float]:
    """Logits after each text and mean cross-entropy, in float32."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    last, nats, tokens = [], 0.0, 0
    for text in TEXTS:
        with torch.no_grad():
            logits = model(torch.tensor([text])).logits[0].float()
        last.append(logits[-1])
        log_probabilities = logits.log_softmax(-1)
        nats -= sum(float(log_probabilities[i, token]) for i, token in enumerate(text[1:]))
        tokens += len(text) - 1
    return torch.stack(last), nats / tokens


def test_several_models_are_read_side_by_side_and_equal_ones_alike(
    three_models: tuple[ModelFiles, ...], tmp_path: Path
) -> None:
    broken = resolve(str(write_tiny_model(tmp_path / "broken", seed=5)))
    config = json.loads((broken.folder / "config.json").read_bytes())
    (broken.folder / "config.json").write_text(json.dumps(config | {"vocab_size": 7}))
    threads, turned = torch.get_num_threads(), torch.arange(320)

    asked = [(three_models[0], None), (broken, None), *[(model, turned) for model in three_models]]
    first, failed, again, second, third = read_models(asked, TEXTS)

    assert torch.equal(first.result().last_NV, again.result().last_NV)
    for reading, model in zip((second, third), three_models[1:], strict=True):
        torch.testing.assert_close(reading.result().last_NV, read_texts(model, TEXTS).last_NV)
    with pytest.raises(ModelError, match="do not fit"):
        failed.result()
    assert torch.get_num_threads() == threads


def test_a_model_is_read_as_transformers_reads_it(
    three_models: tuple[ModelFiles, ...], tmp_path: Path
) -> None:
    others = [
        resolve(str(write_tiny_model(tmp_path / name, name, tied=False, seed=4)))
        for name in ARCHITECTURES
    ]

    for model in (*three_models, *others):
        found = read_texts(model, TEXTS)

        last, nats = by_transformers(model.folder)
        torch.testing.assert_close(found.last_NV, last, atol=1e-5, rtol=1e-5)
        assert found.nats == pytest.approx(nats, abs=1e-5)
        assert found.finite


def test_another_numbering_of_the_same_tokens_gives_the_same_reading(
    three_models: tuple[ModelFiles, ...], tmp_path: Path
) -> None:
    turned = shutil.copytree(three_models[0].folder, tmp_path / "turned")
    model = AutoModelForCausalLM.from_pretrained(turned)
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(model.model.embed_tokens.weight.flip(0))
    model.save_pretrained(turned)

    plain = read_texts(three_models[0], TEXTS)
    found = read_texts(resolve(str(turned)), TEXTS, rows=torch.arange(320).flip(0))

    torch.testing.assert_close(found.last_NV, plain.last_NV)
    assert found.nats == pytest.approx(plain.nats)


def test_a_model_that_the_fused_decoder_does_not_know_is_read_by_transformers(
    tmp_path: Path,
) -> None:
    config = GPT2Config(vocab_size=320, n_positions=64, n_embd=32, n_layer=1, n_head=2)
    GPT2LMHeadModel(config).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)

    with made.Notes() as notes:
        found = read_texts(resolve(str(tmp_path)), TEXTS)

    assert any("read by transformers, as a whole" in text for text in notes.texts)
    last, nats = by_transformers(tmp_path)
    torch.testing.assert_close(found.last_NV, last, atol=1e-5, rtol=1e-5)
    assert found.nats == pytest.approx(nats, abs=1e-5)


def test_weights_that_give_no_numbers_are_told(
    three_models: tuple[ModelFiles, ...], tmp_path: Path
) -> None:
    broken = shutil.copytree(three_models[0].folder, tmp_path / "broken")
    config = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps(config | {"rms_norm_eps": -1e6}))

    assert not read_texts(resolve(str(broken)), TEXTS).finite


def test_weights_that_do_not_fit_the_config_are_named(
    three_models: tuple[ModelFiles, ...], tmp_path: Path
) -> None:
    broken = shutil.copytree(three_models[0].folder, tmp_path / "broken")
    made.edit_json(broken / "config.json", lambda told: told.update(num_hidden_layers=3))
    with pytest.raises(ModelError, match=r"model\.layers\.2\."):
        read_texts(resolve(str(broken)), TEXTS)

    made.edit_json(
        broken / "config.json", lambda told: told.update(num_hidden_layers=2, vocab_size=321)
    )
    with pytest.raises(ModelError, match=r"model\.embed_tokens\.weight"):
        read_texts(resolve(str(broken)), TEXTS)
