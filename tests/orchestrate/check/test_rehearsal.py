"""The rehearsal in this process, on the tiny model; in a process of its own in test_offspring."""

from __future__ import annotations

import io
import json
import os
import resource
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import Queue
from typing import Any, cast

import pytest

from nexa.core.errors import CapacityError, ModelError, TrainingError
from nexa.orchestrate.check import child, inputs, model, rehearsal, rows
from nexa.orchestrate.check.rehearsal import Rehearsal, longest_batch
from nexa.train.accumulate import Accumulation
from nexa.train.batches import Cut
from nexa.train.executor import Executor
from tests.orchestrate.check.made import flight
from tests.train.sample import random_rows
from tests.weights.other_family import write_granite


def job_of(folder: Path, tiny_llama: Path, **changes: dict[str, Any] | None) -> dict[str, Any]:
    """A project whose dataset is prepared, as the parent sends it."""
    made = flight(folder, tiny_llama, **changes)
    for question in (inputs.files, model.files, rows.dataset):
        question(made)
    scratch = made.tiers.new_scratch("check")
    return {
        "config": str(folder / "config.yaml"),
        "records": {role: record.digest for role, record in made.records.items()},
        "scratch": str(scratch),
        "memory_limit_bytes": 1 << 50,
    }


@pytest.mark.usefixtures("_own_limits")
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"lora": None, "training": {"precision": "bfloat16"}},
        {"publish": {"repo": "you/it", "hub": "local", "merge_adapters": False}},
    ],
    ids=["lora", "full", "adapter alone"],
)
def test_the_three_stages_run_in_their_order_and_measure(
    tmp_path: Path, tiny_llama: Path, changes: dict[str, Any]
) -> None:
    facts: dict[str, Any] = {}
    job = job_of(tmp_path, tiny_llama, **changes)
    before = {path.name for path in (tmp_path / ".nexa" / "store" / "recipes").iterdir()}
    made = Rehearsal(job, lambda **more: facts.update(more))
    told = {name: stage() for name, stage in made.stages().items()}
    assert "GB at the longest batch (3" in told["memory"]
    assert "checks of parity passed" in told["merge"]
    assert told["publish"].endswith("card and records verified")
    assert facts["longest_row_tokens"] == 87
    assert facts["peak_bytes"] >= facts["held_bytes"] > 0
    assert facts["tokens_per_s"] > 0
    assert f"with the {facts['engine']} engine" in told["memory"]
    # Nothing of it is in the project's own store.
    after = {path.name for path in (tmp_path / ".nexa" / "store" / "recipes").iterdir()}
    assert before == after


def test_the_longest_batch_is_that_of_the_longest_rows() -> None:
    made = random_rows(30)
    lengths = sorted((len(row.ids) for row in made), reverse=True)[:4]
    executor = cast(Executor, None)  # it is asked for nothing where nothing is too large

    def lengths_of(cut: Cut) -> tuple[int, ...]:
        return longest_batch(made, 4, executor, Accumulation(cut)).lengths

    assert lengths_of(Cut(4096)) == tuple(lengths)
    assert lengths_of(Cut(2 * lengths[0], padded=True)) == tuple(lengths[:2])


def test_a_limit_of_the_users_is_rehearsed(tmp_path: Path, tiny_llama: Path) -> None:
    facts: dict[str, Any] = {}
    job = job_of(tmp_path, tiny_llama, training={"memory_limit": "1 MB"})
    with pytest.raises(CapacityError, match="does not hold one row"):
        Rehearsal(job, lambda **more: facts.update(more)).memory()
    assert facts["engine"] in ("fused", "generic")


# -- the child's side of the pipe ----------------------------------------------------------------


@pytest.fixture
def _own_limits() -> Iterator[None]:
    """The limit that a job sets goes with the test."""
    before = resource.getrlimit(resource.RLIMIT_DATA)
    yield
    resource.setrlimit(resource.RLIMIT_DATA, before)


@pytest.mark.usefixtures("_own_limits")
def test_the_child_answers_one_line_a_stage_and_ends_with_its_parent(
    tmp_path: Path, tiny_llama: Path
) -> None:
    job = job_of(tmp_path, tiny_llama)
    reading, writing = os.pipe()
    ended: list[int] = []
    gone = threading.Event()

    def end(code: int) -> None:
        ended.append(code)
        gone.set()

    answers = io.StringIO()
    with os.fdopen(reading) as jobs, os.fdopen(writing, "w") as parent:
        print(json.dumps({"scratch": job["scratch"]}), json.dumps(job), sep="\n", file=parent)
        parent.flush()
        assert child.serve(jobs, answers, end=end) == 0
        told = [json.loads(line) for line in answers.getvalue().splitlines()]
        answered = [line["check"] for line in told if "check" in line]
        assert answered == ["memory", "merge", "gguf", "publish"]
        parent.close()
        assert gone.wait(20)
    assert ended == [child.ORPHANED]
    assert not Path(job["scratch"]).exists()


def test_a_parent_that_never_spoke_leaves_nothing_to_clean() -> None:
    gone = threading.Event()
    child._listen(io.StringIO(), Queue(), lambda code: gone.set())
    assert gone.is_set()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (TrainingError("the loss is zero", fix="look"), {"finding"}),
        (MemoryError(), {"capacity"}),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried"), {"capacity"}),
    ],
)
def test_a_stage_that_fails_is_told_and_is_the_last(error: Exception, said: set[str]) -> None:
    def stage() -> str:
        raise error

    answers = io.StringIO()
    assert not child._answer(answers, "memory", stage)
    assert json.loads(answers.getvalue()).keys() == {"check"} | said


def test_a_model_that_could_not_be_read_for_lack_of_memory_is_no_broken_model() -> None:
    def stage() -> str:
        raise ModelError("cannot load it") from RuntimeError(
            "unable to mmap: Cannot allocate memory"
        )

    answers = io.StringIO()
    assert not child._answer(answers, "memory", stage)
    assert "Cannot allocate memory" in json.loads(answers.getvalue())["capacity"]


def test_a_mistake_of_our_own_is_not_called_memory() -> None:
    def stage() -> str:
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes"):
        child._answer(io.StringIO(), "memory", stage)


@pytest.mark.usefixtures("_own_limits")
def test_a_limit_below_that_of_the_system_is_set() -> None:
    rehearsal._limit_memory(1 << 50)
    assert resource.getrlimit(resource.RLIMIT_DATA)[0] > 1 << 50


@pytest.mark.usefixtures("_own_limits")
def test_a_system_without_this_limit_is_left_alone(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    rehearsal._limit_memory(1, tmp_path / "none")
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


def test_main_keeps_standard_output_for_the_answers(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def served(jobs: Any, answers: Any, *, end: Any) -> int:
        os.write(1, b"noise of a library\n")
        answers.write("an answer\n")
        answers.close()
        return 7

    monkeypatch.setattr(child, "serve", served)
    own = os.dup(1)
    try:
        assert child.main() == 7
    finally:
        os.dup2(own, 1)
        os.close(own)
    out, err = capfd.readouterr()
    assert (out, err) == ("an answer\n", "noise of a library\n")


@pytest.mark.usefixtures("_own_limits")
def test_what_is_published_as_gguf_is_converted_before_the_training(
    tmp_path: Path, tiny_llama: Path
) -> None:
    publish = {"repo": "you/it", "hub": "local", "format": "gguf", "quantization": ["f16", "q8_0"]}
    job = job_of(tmp_path, tiny_llama, publish=publish)
    facts: dict[str, Any] = {}
    stages = Rehearsal(job, lambda **more: facts.update(more)).stages()
    told = {name: stage() for name, stage in stages.items()}
    assert set(facts["gguf"]) == {"f16", "q8_0"}
    assert facts["gguf"]["f16"]["bytes"] > facts["gguf"]["q8_0"]["bytes"] > 0
    assert told["gguf"].endswith("proved on the untrained model")
    assert told["publish"].endswith("card and records verified")


@pytest.mark.usefixtures("_own_limits")
def test_the_rehearsed_merge_of_qlora_is_of_what_four_bits_say(
    tmp_path: Path, tiny_llama: Path
) -> None:
    job = job_of(tmp_path, tiny_llama, quantize={"bits": 4}, training={"precision": "auto"})
    made = Rehearsal(job, lambda **_: None)
    made.memory()
    body = made._made["checkpoint"].body
    assert (body.quantization, body.double_quantization) == ("nf4", True)
    assert body.precision in ("bfloat16", "float32")
    assert "checks of parity passed" in made.merge()


@pytest.mark.usefixtures("_own_limits")
def test_a_family_that_gguf_does_not_hold_is_known_before_the_training(tmp_path: Path) -> None:
    other = write_granite(tmp_path / "granite")
    publish = {"repo": "you/it", "hub": "local", "format": "gguf", "quantization": "f16"}
    job = job_of(tmp_path, other, publish=publish)
    made = Rehearsal(job, lambda **_: None)
    made.memory()
    assert "checks of parity passed" in made.merge()
    with pytest.raises(ModelError, match=r"(?i)granite|gguf"):
        made.gguf()
