from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nexa.core.errors import ModelError
from nexa.lm import continuations
from nexa.lm.continuations import Continued, log_likelihoods
from nexa.lm.fused import AnyModel
from nexa.lm.llama_cpp import available
from nexa.lm.load import LoadedModel, load
from nexa.lm.local import close_model, open_model
from nexa.lm.resolve import resolve
from tests.lm.gguf_models import write_gguf

ASKED = [
    Continued([5, 9, 200, 41], ([3], [17, 4, 8], [12, 60])),
    Continued([7], ([33, 250], [251, 7, 7, 7])),
    Continued([4, 4, 9], ([11, 12, 13],)),
    Continued([90, 2], ([5],)),
    Continued([5, 9, 1], ([3], [4])),
    Continued([6, 6], ([1, 2],)),
]


@pytest.fixture(params=["fused", "transformers"])
def loaded(tiny_llama: Path, request: pytest.FixtureRequest) -> AnyModel:
    return open_model(resolve(str(tiny_llama)), dtype="float32", engine=request.param)


@pytest.fixture
def theirs(tiny_llama: Path, loaded: AnyModel) -> LoadedModel:
    """The same model in transformers."""
    return load(resolve(str(tiny_llama)), dtype="float32")


def by_hand(loaded: LoadedModel, asked: list[Continued]) -> list[list[float]]:
    """Every text by itself through plain transformers."""
    found = []
    for each in asked:
        nats = []
        for continuation in each.continuations:
            ids = torch.tensor([[*each.prompt, *continuation]])
            with torch.no_grad():
                log_probs = loaded.model(input_ids=ids).logits[0].double().log_softmax(-1)
            begin = len(each.prompt)
            nats.append(sum(float(log_probs[t - 1, ids[0, t]]) for t in range(begin, ids.shape[1])))
        found.append(nats)
    return found


def agree(ours: list[list[float]], theirs: list[list[float]]) -> None:
    for one, other in zip(ours, theirs, strict=True):
        assert one == pytest.approx(other, abs=1e-4)


def test_continuations_are_as_likely_as_transformers_finds_them(
    loaded: AnyModel, theirs: LoadedModel
) -> None:
    agree(log_likelihoods(loaded, ASKED), by_hand(theirs, ASKED))


@pytest.mark.parametrize("tokens", [1, 6, 9])
def test_how_many_are_read_at_once_does_not_matter(
    loaded: AnyModel, theirs: LoadedModel, tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(continuations, "READ_TOKENS", tokens)
    monkeypatch.setattr(continuations, "LOSS_POSITIONS", 2)
    agree(log_likelihoods(loaded, ASKED), by_hand(theirs, ASKED))


def test_nothing_asked_is_nothing_found(loaded: AnyModel) -> None:
    assert log_likelihoods(loaded, []) == []


@pytest.mark.parametrize(
    "asked", [Continued([], ([4],)), Continued([4], ()), Continued([4], ([3], []))]
)
def test_a_prompt_that_cannot_be_continued_is_refused(loaded: AnyModel, asked: Continued) -> None:
    with pytest.raises(ModelError, match="prompt 1 cannot be continued"):
        log_likelihoods(loaded, [ASKED[0], asked])


def test_a_text_fills_the_model_and_no_more(loaded: AnyModel) -> None:
    # Of the last token nothing is asked: it is not read.
    log_likelihoods(loaded, [Continued([5] * 510, ([7, 7, 7],))])
    with pytest.raises(ModelError, match="513 tokens"):
        log_likelihoods(loaded, [Continued([5] * 510, ([7, 7, 7, 7],))])


@pytest.mark.skipif(available() is not None, reason=str(available()))
def test_a_gguf_file_is_read_by_llama_cpp_itself(tiny_llama: Path, tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf", tiny_llama)
    run = open_model(resolve(str(tmp_path / "m.gguf")), engine="llama.cpp")
    theirs = load(resolve(str(tiny_llama)), dtype="float32")
    found = log_likelihoods(run, ASKED[:3])
    close_model(run)
    for one, other in zip(found, by_hand(theirs, ASKED[:3]), strict=True):
        assert one == pytest.approx(other, rel=1e-4)
