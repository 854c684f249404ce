from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from nexa.core.errors import ModelError
from nexa.lm import score
from nexa.lm.fused import AnyModel
from nexa.lm.llama_cpp import available
from nexa.lm.load import LoadedModel, load
from nexa.lm.local import close_model, open_model
from nexa.lm.resolve import resolve
from tests.lm.gguf_models import write_gguf

DOCUMENTS = [[5, 9, 200, 41, 3], [17, 4], [8], [12, 60, 33, 250, 251, 7, 7, 7]]


@pytest.fixture(params=["fused", "transformers"])
def loaded(tiny_llama: Path, request: pytest.FixtureRequest) -> AnyModel:
    return open_model(resolve(str(tiny_llama)), dtype="float32", engine=request.param)


@pytest.fixture
def theirs(tiny_llama: Path, loaded: AnyModel) -> LoadedModel:
    """The same model in transformers."""
    return load(resolve(str(tiny_llama)), dtype="float32")


def by_hand(loaded: LoadedModel, ids: list[int]) -> float:
    """Token by token: minus the log of the softmax, summed in Python."""
    nats = 0.0
    for end in range(1, len(ids)):
        with torch.no_grad():
            row = loaded.model(input_ids=torch.tensor([ids[:end]])).logits[0, -1].double().tolist()
        top = max(row)
        nats += math.log(sum(math.exp(x - top) for x in row)) + top - row[ids[end]]
    return nats


def test_cross_entropy_is_the_sum_over_tokens_of_each_document(
    loaded: AnyModel, theirs: LoadedModel
) -> None:
    nats, tokens = score.cross_entropy(loaded, DOCUMENTS)
    assert tokens == 4 + 1 + 0 + 7
    assert nats == pytest.approx(sum(by_hand(theirs, ids) for ids in DOCUMENTS), rel=1e-5)


def test_one_document_may_be_given_as_it_is(loaded: AnyModel) -> None:
    assert score.cross_entropy(loaded, DOCUMENTS[0]) == score.cross_entropy(loaded, DOCUMENTS[:1])


def test_long_documents_are_scored_in_pieces_alike(
    loaded: AnyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = score.cross_entropy(loaded, DOCUMENTS)
    monkeypatch.setattr(score, "LOSS_POSITIONS", 3)
    nats, tokens = score.cross_entropy(loaded, DOCUMENTS)
    assert tokens == whole[1]
    assert nats == pytest.approx(whole[0], rel=1e-6)


def test_logits_are_float32_after_each_token(
    tiny_llama: Path, loaded: AnyModel, theirs: LoadedModel
) -> None:
    ids = DOCUMENTS[3]
    made = score.logits(loaded, ids)
    assert made.shape == (len(ids), 320)
    with torch.no_grad():
        alone = theirs.model(input_ids=torch.tensor([ids[:4]])).logits[0, -1]
    torch.testing.assert_close(made[3], alone, rtol=1e-5, atol=1e-5)
    half = open_model(resolve(str(tiny_llama)), dtype="bfloat16")
    assert score.logits(half, ids).dtype == torch.float32


@pytest.mark.parametrize("documents", [[], [[4], [7]]])
def test_nothing_to_predict_is_refused(loaded: AnyModel, documents: list[list[int]]) -> None:
    with pytest.raises(ModelError, match="no token to predict"):
        score.cross_entropy(loaded, documents)


def test_a_text_longer_than_the_model_is_refused(loaded: AnyModel) -> None:
    with pytest.raises(ModelError, match="513 tokens"):
        score.logits(loaded, [5] * 513)
    with pytest.raises(ModelError, match="0 tokens"):
        score.logits(loaded, [])


@pytest.mark.skipif(available() is not None, reason=str(available()))
def test_a_gguf_file_is_read_by_llama_cpp_itself(tiny_llama: Path, tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf", tiny_llama)
    run = open_model(resolve(str(tmp_path / "m.gguf")), engine="llama.cpp")
    theirs = load(resolve(str(tiny_llama)), dtype="float32")
    nats, tokens = score.cross_entropy(run, DOCUMENTS)
    close_model(run)
    assert (nats, tokens) == (
        pytest.approx(sum(by_hand(theirs, ids) for ids in DOCUMENTS), rel=1e-5),
        12,
    )
