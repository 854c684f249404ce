from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tokenizers import normalizers

from nexa.lm import llama_cpp
from nexa.lm.gguf_file import GgufFile
from nexa.lm.tokenizer import read_tokenizer
from nexa.weights.gguf import runtime
from nexa.weights.gguf.proof import prove_gguf
from nexa.weights.gguf.runtime import Told, asking, runtime_checks, runtime_fact
from nexa.weights.gguf.write import write_gguf
from nexa.weights.probes import NASTY, nasty_ids
from tests.support.tiny import tiny_tokenizer, write_tiny_model
from tests.weights.gguf.folders import byte_level, write_folder

needs_llama_cpp = pytest.mark.skipif(
    llama_cpp.available() is not None, reason="the extra gguf is not installed"
)


@needs_llama_cpp
def test_llama_cpp_finds_the_same_ids_and_the_same_next_tokens(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model", tokenizer=byte_level("smollm"))
    written = write_gguf(folder, tmp_path / "x.gguf", quantization="f32", name="tiny")

    parity = prove_gguf(tmp_path / "x.gguf", folder, written)

    parity.require()
    told = {check.name: check.value for check in parity.checks}
    assert told["runtime_token_ids"] == "equal"
    assert told["runtime_kl_nats"] < 1e-4
    assert parity.facts["runtime"].startswith("xllamacpp ")


@needs_llama_cpp
def test_a_file_that_llama_cpp_cannot_load_is_told_by_name(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "model")
    path = tmp_path / "x.gguf"
    written = write_gguf(folder, path, quantization="f32", name="tiny")
    assert "llama.feed_forward_length" in GgufFile.open(path).metadata
    path.write_bytes(path.read_bytes().replace(b"feed_forward_length", b"feed_forward_lengtH"))

    failed = {check.name for check in prove_gguf(path, folder, written).checks if not check.passed}

    assert {"architecture", "tensors_fit_config", "runtime_loads"} <= failed
    assert "runtime_kl_nats" not in failed


def test_nothing_is_checked_where_it_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llama_cpp, "PACKAGE", "no_such_package")
    folder = write_tiny_model(tmp_path / "model")
    written = write_gguf(folder, tmp_path / "x.gguf", quantization="f16", name="tiny")

    parity = prove_gguf(tmp_path / "x.gguf", folder, written)

    parity.require()
    assert parity.facts["runtime"] == "not installed"
    assert not [check for check in parity.checks if check.name.startswith("runtime")]


def test_it_is_not_asked_where_it_is_not_wanted(tmp_path: Path) -> None:
    with asking(tmp_path / "x.gguf", [[1]], wanted=False) as asked:
        assert asked is None
    assert runtime_fact(wanted=False) == "not asked"


class Answered:
    """What llama.cpp would have answered."""

    def __init__(self, told: Told) -> None:
        self.told = told

    def result(self) -> Told:
        return self.told


def failures(told: Told, logits: torch.Tensor | None, *, composes: bool = False) -> set[str]:
    tokenizer = tiny_tokenizer()
    if composes:
        tokenizer.backend_tokenizer.normalizer = normalizers.NFC()
    checks = runtime_checks(
        Answered(told),  # type: ignore[arg-type]
        tokenizer,
        [[1, 2], [3]],
        logits,
        kl_limit_nats=1e-4,
    )
    return {check.name for check in checks if not check.passed}


def test_other_ids_and_other_logits_are_told_by_name() -> None:
    logits = torch.randn(3, 320)
    log_probs = [logits[row].log_softmax(-1) for row in (1, 2)]
    ids = nasty_ids(tiny_tokenizer())
    assert failures(Told(ids, log_probs), logits) == set()

    assert failures(Told(ids, log_probs[::-1]), logits) == {"runtime_kl_nats"}
    assert failures(Told([*ids[:-1], [1]], log_probs), logits) == {"runtime_token_ids"}
    assert failures(Told(ids, log_probs[::-1]), None) == set()


def test_texts_that_a_tokenizer_composes_and_llama_cpp_does_not_are_left_out() -> None:
    logits = torch.randn(3, 320)
    log_probs = [logits[row].log_softmax(-1) for row in (1, 2)]
    ids = nasty_ids(tiny_tokenizer())

    assert failures(Told(ids, log_probs), logits, composes=True) == set()
    assert any("\u0301" in text for text in NASTY)


def test_the_tokenizer_of_the_folder_is_the_one_that_is_compared(tiny_llama: Path) -> None:
    assert nasty_ids(read_tokenizer(tiny_llama)) == nasty_ids(tiny_tokenizer())
    assert runtime.TEXTS <= 8
