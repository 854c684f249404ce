from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from nexa.eval import general_text
from nexa.lm.load import LoadedModel, load
from nexa.lm.resolve import resolve
from nexa.lm.score import cross_entropy


@pytest.fixture
def loaded(tiny_llama: Path) -> LoadedModel:
    return load(resolve(str(tiny_llama)), dtype="float32")


def test_the_text_is_the_one_that_published_numbers_were_taken_on() -> None:
    data = general_text.general_text()
    assert 600 <= len(data.split()) <= 900
    assert general_text.general_text_sha256() == hashlib.sha256(data).hexdigest()
    # A change of the text makes every earlier number incomparable: change it knowingly.
    assert (
        general_text.general_text_sha256()
        == "f7888cd7fa582de242bb00b9464e08477c07abb554418c507f68c01e1839c517"
    )


def test_it_is_scored_whole_in_pieces_that_fit_the_model(loaded: LoadedModel) -> None:
    ids = loaded.tokenizer(general_text.general_text().decode())["input_ids"]
    assert len(ids) > 2 * 512  # more than the tiny model has positions for
    pieces = [ids[at : at + 512] for at in range(0, len(ids), 512)]
    nats, tokens = cross_entropy(loaded, pieces)
    assert tokens == len(ids) - len(pieces)
    assert general_text.general_cross_entropy(loaded) == pytest.approx(nats / tokens)
