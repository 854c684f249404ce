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
    assert parity.facts["runtime_kl"] == "2 texts, 1000 likeliest tokens"


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
    assert "runtime_kl" not in parity.facts
    with runtime.begun() as child:
        assert child is None
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
    tops = [top(logits[row], 50) for row in (1, 2)]
    ids = nasty_ids(tiny_tokenizer())
    assert failures(Told(ids, tops), logits) == set()

    assert failures(Told(ids, tops[::-1]), logits) == {"runtime_kl_nats"}
    assert failures(Told([*ids[:-1], [1]], tops), logits) == {"runtime_token_ids"}
    assert failures(Told(ids, tops[::-1]), None) == set()


def top(logits_V: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """What llama.cpp would tell of these logits."""
    values, tokens = logits_V.log_softmax(-1).topk(count)
    return tokens, values


def divergence(wanted_V: torch.Tensor, told: tuple[torch.Tensor, torch.Tensor]) -> float:
    return runtime._divergence([told], [[1]], wanted_V[None])


def test_the_divergence_is_that_of_all_tokens_where_all_are_told_and_never_more() -> None:
    wanted, got = torch.randn(320) * 3, torch.randn(320) * 3
    p, q = wanted.double().log_softmax(-1), got.double().log_softmax(-1)
    whole = float((p.exp() * (p - q)).sum())
    found = [divergence(wanted, top(got, count)) for count in (1, 10, 100, 300, 320)]
    assert found == sorted(found)
    assert found[-1] == pytest.approx(whole, rel=1e-5)
    assert found[0] > 0


def test_what_the_runtime_gives_to_tokens_that_it_does_not_tell_counts() -> None:
    wanted = torch.randn(320)
    tokens, values = top(wanted, 100)
    # The right tokens, in the right proportions, with half of what they should have together.
    assert divergence(wanted, (tokens, values - 0.7)) > 0.1
    # None of the likely ones.
    assert divergence(wanted, (tokens[-5:], values[-5:] - values[-5:].logsumexp(0))) > 1


def test_an_error_of_the_runtime_s_sum_is_no_divergence() -> None:
    for sharpness in (0.1, 1.0, 30.0):
        wanted = torch.randn(320) * sharpness
        for count in (10, 320):
            tokens, values = top(wanted, count)
            for error in (-2e-4, 2e-4):
                assert divergence(wanted, (tokens, values + error)) < 1e-6


def test_tokens_that_the_weights_do_not_have_count_as_the_rest() -> None:
    wanted, got = torch.randn(320), torch.randn(330)
    tokens, values = top(got, 330)
    kept = tokens < 320
    found = divergence(wanted, (tokens, values))
    assert found == pytest.approx(divergence(wanted, (tokens[kept], values[kept])))
    assert found > 0


def test_numbers_that_are_none_fail() -> None:
    logits = torch.randn(3, 320)
    tops = [top(logits[row], 50) for row in (1, 2)]
    logits[1, 7] = float("nan")
    assert failures(Told(nasty_ids(tiny_tokenizer()), tops), logits) == {"runtime_kl_nats"}


def test_texts_that_a_tokenizer_composes_and_llama_cpp_does_not_are_left_out() -> None:
    logits = torch.randn(3, 320)
    tops = [top(logits[row], 50) for row in (1, 2)]
    ids = nasty_ids(tiny_tokenizer())

    assert failures(Told(ids, tops), logits, composes=True) == set()
    assert any("\u0301" in text for text in NASTY)


def test_the_tokenizer_of_the_folder_is_the_one_that_is_compared(tiny_llama: Path) -> None:
    assert nasty_ids(read_tokenizer(tiny_llama)) == nasty_ids(tiny_tokenizer())
    assert runtime.TEXTS <= 8
