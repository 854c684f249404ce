from __future__ import annotations

import gc
import math
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import gguf
import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from safetensors.torch import load_file, save_file

from nexa.core import events
from nexa.core.errors import MissingExtra, ModelError
from nexa.lm import score
from nexa.lm.llama_cpp import LOWEST_LOG_PROB, Child, LlamaCpp, available, runtime_version
from nexa.lm.load import LoadedModel, load
from nexa.lm.resolve import ModelFiles
from tests.lm.gguf_models import write_gguf
from tests.lm.lively import alone, prompts_of, stops_that_happen, write_lively
from tests.support.tiny import ARCHITECTURES

needs_llama_cpp = pytest.mark.skipif(available() is not None, reason=str(available()))
SNOWMAN = "\N{SNOWMAN}"  # three bytes, a token each


@pytest.fixture(scope="module")
def lively(tmp_path_factory: pytest.TempPathFactory) -> tuple[LoadedModel, Path]:
    """A lively Llama under transformers, and the same weights as a GGUF file."""
    folder = tmp_path_factory.mktemp("lively")
    files = write_lively(folder / "model")
    write_gguf(folder / "lively.gguf", files.folder)
    return load(files, dtype="float32"), folder / "lively.gguf"


@pytest.fixture(scope="module")
def loaded(lively: tuple[LoadedModel, Path]) -> LoadedModel:
    return lively[0]


@pytest.fixture(scope="module")
def running(lively: tuple[LoadedModel, Path]) -> Iterator[LlamaCpp]:
    with LlamaCpp.open(lively[1], positions=512) as server:
        yield server


# -- answers -------------------------------------------------------------------------------------


@needs_llama_cpp
@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_it_answers_as_transformers_does(tmp_path: Path, architecture: str) -> None:
    files = write_lively(tmp_path / architecture, architecture)
    write_gguf(tmp_path / "m.gguf", files.folder)
    loaded = load(files, dtype="float32")
    prompts = prompts_of([5, 40, 1, 17, 64])
    stop = stops_that_happen(loaded.model, prompts, 24)
    expected = [alone(loaded.model, prompt, 24, stop) for prompt in prompts]
    with LlamaCpp.open(tmp_path / "m.gguf", positions=512) as server:
        answers = server.generate(prompts, max_new_tokens=24, stop_ids=stop)
        streamed = [
            list(server.stream(prompt, max_new_tokens=24, stop_ids=stop)) for prompt in prompts
        ]
    assert [answer.ids for answer in answers] == streamed == expected
    assert [answer.stopped for answer in answers] == [len(ids) < 24 for ids in expected]
    assert len({len(ids) for ids in expected}) > 2


@needs_llama_cpp
def test_what_ends_an_answer_says_the_caller_and_not_the_file(
    lively: tuple[LoadedModel, Path], running: LlamaCpp, tmp_path: Path
) -> None:
    """The file's own end of a turn is passed over where it is not among the stops."""
    loaded, path = lively
    prompts = prompts_of([12, 9, 30])
    free = [alone(loaded.model, prompt, 40, ()) for prompt in prompts]
    told = running.generate(prompts, max_new_tokens=40, stop_ids=())
    assert [answer.ids for answer in told] == free
    # The same file with a token as its end that these answers hold.
    early = tmp_path / "early.gguf"
    field = gguf.GGUFReader(path).fields["tokenizer.ggml.eos_token_id"]
    data = bytearray(path.read_bytes())
    start = field.offset + len(field.parts[0].tobytes() + field.parts[1].tobytes()) + 4
    data[start : start + 4] = free[0][2].to_bytes(4, "little")
    early.write_bytes(data)
    with LlamaCpp.open(early, positions=512) as server:
        again = server.generate(prompts, max_new_tokens=40, stop_ids=())
    assert [answer.ids for answer in again] == free


@needs_llama_cpp
def test_progress_grows_and_ends_at_the_number_of_rows(running: LlamaCpp) -> None:
    heard: list[events.Event] = []
    with events.listening(heard.append):
        answers = running.generate(prompts_of([9, 8, 7]), max_new_tokens=20, stop_ids=())
    told = [event["done"] for event in heard if event["kind"] == "progress"]
    assert told == sorted(told)
    assert told[-1] == 3
    assert len(told) > 3
    assert all(event["task"] == "answering" for event in heard)
    assert all(answer.latency_s > 0 for answer in answers)
    assert running.generate([], max_new_tokens=4, stop_ids=()) == []


@needs_llama_cpp
@pytest.mark.parametrize(
    ("prompt", "tokens", "message"),
    [
        ([], 4, "prompt 0 has no tokens"),
        ([5] * 500, 13, "do not fit"),
        ([5], 0, "at least one token"),
        ([9999], 4, r"refuses what lively.gguf was asked(.|\n)*invalid tokens"),
    ],
)
def test_what_cannot_be_answered_is_refused(
    running: LlamaCpp, prompt: list[int], tokens: int, message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        running.generate([prompt], max_new_tokens=tokens, stop_ids=())
    with pytest.raises(ModelError, match=message):
        list(running.stream(prompt, max_new_tokens=tokens, stop_ids=()))


@needs_llama_cpp
def test_a_text_may_fill_its_room(running: LlamaCpp) -> None:
    [answer] = running.generate([[5] * 508], max_new_tokens=4, stop_ids=())
    assert len(answer.ids) == 4
    assert running.log_probs([5] * 511, start=510).shape == (1, 320)
    # One token less than the model was trained on: llama.cpp refuses a prompt that fills it.
    with pytest.raises(ModelError, match="exceeds the available context size"):
        running.log_probs([5] * 512, start=511)


# -- probabilities -------------------------------------------------------------------------------


@needs_llama_cpp
def test_log_probabilities_are_those_of_transformers(
    running: LlamaCpp, loaded: LoadedModel
) -> None:
    [ids] = prompts_of([40])
    expected = score.logits(loaded, ids).log_softmax(-1)
    found = running.log_probs(ids)
    assert (found.dtype, tuple(found.shape)) == (torch.float32, (40, running.vocabulary))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)
    torch.testing.assert_close(found.exp().sum(-1), torch.ones(40), rtol=0, atol=1e-4)
    assert torch.equal(running.log_probs(ids, start=37), found[37:])
    assert running.log_probs(ids, start=40).shape == (0, 320)


@needs_llama_cpp
def test_the_likeliest_tokens_are_those_of_all(running: LlamaCpp) -> None:
    [ids] = prompts_of([40])
    expected = running.log_probs(ids, start=39)[0]
    tokens, found = running.top_log_probs(ids, 10)
    assert tokens.tolist() == expected.topk(10).indices.tolist()
    torch.testing.assert_close(found, expected[tokens], rtol=0, atol=1e-3)
    assert len(running.top_log_probs(ids, 10_000)[0]) == running.vocabulary


@needs_llama_cpp
def test_each_token_s_own_is_found_where_it_ends_inside_a_character(
    running: LlamaCpp, loaded: LoadedModel
) -> None:
    ids = running.tokenize(f"is {SNOWMAN} 5<|im_start|>x<|im_end|>y")
    assert len(ids) > 7
    log_probs = score.logits(loaded, ids[:-1]).log_softmax(-1)
    expected = log_probs.gather(1, torch.tensor(ids[1:])[:, None])[:, 0]
    found = torch.tensor(running.token_log_probs(ids))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)


def with_head_times(factor: float, files: ModelFiles, folder: Path) -> Path:
    """The model as a GGUF file, its head multiplied."""
    (folder / "changed").mkdir()
    for name in files.files:
        (folder / "changed" / name).write_bytes((files.folder / name).read_bytes())
    tensors = load_file(folder / "changed" / "model.safetensors")
    tensors["lm_head.weight"] *= factor
    save_file(tensors, folder / "changed" / "model.safetensors", {"format": "pt"})
    write_gguf(folder / "changed.gguf", folder / "changed")
    return folder / "changed.gguf"


@needs_llama_cpp
def test_what_is_all_but_impossible_is_the_smallest_that_float32_holds(
    tmp_path: Path, loaded: LoadedModel
) -> None:
    sure = with_head_times(1000, loaded.files, tmp_path)
    with LlamaCpp.open(sure, positions=64) as server:
        [row] = server.log_probs([5])
        told = server.token_log_probs([5, int(row.argmin())])
    assert row.max() == 0
    assert row.min() == pytest.approx(LOWEST_LOG_PROB)
    assert told == [pytest.approx(LOWEST_LOG_PROB)]


@needs_llama_cpp
def test_weights_that_give_no_numbers_are_told(tmp_path: Path, loaded: LoadedModel) -> None:
    broken = with_head_times(math.nan, loaded.files, tmp_path)
    with LlamaCpp.open(broken, positions=64) as server:
        for asked in (server.log_probs, server.token_log_probs):
            with pytest.raises(ModelError, match=r"changed.gguf gives probabilities that are not"):
                asked([5, 6])


@needs_llama_cpp
@pytest.mark.parametrize("ids", [[], [5] * 513])
def test_a_text_that_does_not_fit_has_no_probabilities(running: LlamaCpp, ids: list[int]) -> None:
    for asked in (running.log_probs, running.token_log_probs):
        with pytest.raises(ModelError, match=f"{len(ids)} tokens, lively.gguf has room"):
            asked(ids)


# -- text ----------------------------------------------------------------------------------------


@needs_llama_cpp
def test_text_is_cut_by_the_tokenizer_in_the_file(running: LlamaCpp, loaded: LoadedModel) -> None:
    text = f"The density of iron {SNOWMAN} is <|im_start|> 7.87"
    assert running.tokenize(text) == loaded.tokenizer(text)["input_ids"]
    plain = running.tokenize(text, parse_special=False)
    assert len(plain) > len(running.tokenize(text))
    assert running.tokenize("iron", add_special=True) == running.tokenize("iron")


# -- the process ---------------------------------------------------------------------------------


@needs_llama_cpp
def test_nothing_is_printed_and_nothing_is_left(
    lively: tuple[LoadedModel, Path],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        with monkeypatch.context() as patched:
            patched.setattr(tempfile, "tempdir", short)
            server = LlamaCpp.open(lively[1], positions=64, threads=1)
        with server:
            server.generate([[5]], max_new_tokens=2, stop_ids=())
            assert server._connection.sock is None  # llama.cpp hangs up on one that is idle
            [folder] = Path(short).iterdir()
            assert folder.stat().st_mode & 0o777 == 0o700
        assert server._child.process.returncode is not None
        assert server.closed
        server.close()
        assert list(Path(short).iterdir()) == []
    assert capfd.readouterr() == ("", "")
    with pytest.raises(ModelError, match="was closed"):
        server.tokenize("iron")


@needs_llama_cpp
def test_a_process_that_was_started_before_is_told_its_file_and_ends_with_it(
    lively: tuple[LoadedModel, Path],
) -> None:
    with Child() as child:
        with LlamaCpp.open(lively[1], positions=64, child=child) as server:
            assert server._child is child
            assert server.tokenize("iron")
        assert child.process.returncode is not None
        assert not child.folder.exists()


@needs_llama_cpp
def test_a_process_that_is_never_told_a_file_ends_too() -> None:
    with Child() as child:
        assert child.process.poll() is None
    assert child.process.returncode is not None
    assert not child.folder.exists()


@needs_llama_cpp
def test_one_that_is_forgotten_ends(lively: tuple[LoadedModel, Path]) -> None:
    server = LlamaCpp.open(lively[1], positions=64)
    process = server._child.process
    del server
    gc.collect()
    assert process.returncode is not None


@needs_llama_cpp
def test_a_temporary_folder_with_a_long_name_is_passed_over(
    lively: tuple[LoadedModel, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    with monkeypatch.context() as patched:
        patched.setattr(tempfile, "tempdir", str(deep))
        server = LlamaCpp.open(lively[1], positions=64)
    with server:
        assert server.tokenize("iron")
    assert list(deep.iterdir()) == []


@needs_llama_cpp
def test_a_process_that_is_killed_is_told(lively: tuple[LoadedModel, Path]) -> None:
    with LlamaCpp.open(lively[1], positions=64) as server:
        server._child.process.send_signal(signal.SIGKILL)
        server._child.process.wait()
        with pytest.raises(ModelError, match=r"ended while it ran lively.gguf(.|\n)*code -9"):
            server.generate([[5]], max_new_tokens=2, stop_ids=())
        assert server.closed


# -- files that it cannot load -------------------------------------------------------------------


def torn(data: bytes) -> bytes:
    return data[: len(data) // 2]


def without_metadata(data: bytes) -> bytes:
    return data[:1000]


def of_another_kind(data: bytes) -> bytes:
    return b"no model at all" * 100


def without_a_tensor(data: bytes) -> bytes:
    return data.replace(b"blk.1.ffn_up", b"blk.1.ffn_xx")


def with_too_many_layers(data: bytes) -> bytes:
    key = b"llama.block_count"
    at = data.index(key) + len(key) + 4
    return data[:at] + (9999).to_bytes(4, "little") + data[at + 4 :]


@needs_llama_cpp
@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (torn, "not within the file bounds"),
        (without_metadata, "failed to read key-value pairs"),
        (of_another_kind, "invalid magic characters"),
        (without_a_tensor, "blk.1.ffn_up.weight' not found"),
        # In llama.cpp this is an assertion that fails: it ends its process.
        (with_too_many_layers, "GGML_ASSERT(hparams.n_layer"),
    ],
)
def test_a_damaged_file_is_an_error_and_this_process_goes_on(
    lively: tuple[LoadedModel, Path],
    tmp_path: Path,
    damage: object,
    found: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert callable(damage)
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(damage(lively[1].read_bytes()))
    with pytest.raises(ModelError, match=r"llama.cpp cannot load bad\.gguf") as error:
        LlamaCpp.open(bad, positions=64)
    assert found in str(error.value)
    assert capfd.readouterr() == ("", "")


@needs_llama_cpp
def test_no_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot load none.gguf(.|\n)*No such file"):
        LlamaCpp.open(tmp_path / "none.gguf", positions=64)


@needs_llama_cpp
def test_a_child_that_cannot_start_is_told(
    lively: tuple[LoadedModel, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "xllamacpp.py").write_text("raise ImportError('GLIBC_2.99 not found')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(ModelError, match=r"cannot load lively.gguf(.|\n)*GLIBC_2.99 not found"):
        LlamaCpp.open(lively[1], positions=64)


def test_without_the_package_the_line_that_installs_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    assert available() == "the package xllamacpp is not installed"
    with pytest.raises(MissingExtra, match=r"pip install .*\[gguf\]"):
        LlamaCpp.open(tmp_path / "m.gguf", positions=64)


# -- quantised files -----------------------------------------------------------------------------


@needs_llama_cpp
def test_a_quantised_file_answers_nearly_as_its_dequantised_weights(
    tmp_path: Path,
) -> None:
    files = write_lively(tmp_path / "model")
    write_gguf(tmp_path / "q8.gguf", files.folder, kind=Kind.Q8_0)
    [ids] = prompts_of([20])
    exact = score.logits(load(files, dtype="float32"), ids).softmax(-1)
    with LlamaCpp.open(tmp_path / "q8.gguf", positions=64) as server:
        found = server.log_probs(ids)
    divergence = (exact * (exact.log() - found)).sum(-1)
    assert 0 < divergence.mean() < 0.05


@needs_llama_cpp
def test_the_version_is_that_of_the_package() -> None:
    assert runtime_version().startswith("xllamacpp 20")
