from __future__ import annotations

import json
import os
import resource
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save
from torch import Tensor

from nexa.core.errors import ModelError, StorageError
from nexa.lm.safetensors_files import BLOCK_NUMBERS, DTYPES, INDEX, SafetensorsWriter, Slot

EVERYTHING = 1 << 40


def slots_of(tensors: dict[str, Tensor]) -> list[Slot]:
    return [Slot(name, tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()]


def write(
    folder: Path,
    tensors: dict[str, Tensor],
    *,
    slots: list[Slot] | None = None,
    limit_bytes: int = EVERYTHING,
) -> None:
    with SafetensorsWriter(folder, slots or slots_of(tensors), limit_bytes=limit_bytes) as writer:
        for name, tensor in reversed(tensors.items()):
            writer.write(name, tensor)


def write_some(folder: Path, *named: tuple[str, Tensor]) -> None:
    """Begin files for `some()`, a shard each, and write these instead."""
    with SafetensorsWriter(folder, slots_of(some()), limit_bytes=20) as writer:
        for name, tensor in named:
            writer.write(name, tensor)


def some() -> dict[str, Tensor]:
    return {"b": torch.randn(3, 4), "a": torch.randn(5), "c": torch.randn(2, 2).bfloat16()}


def test_a_file_has_the_bytes_that_the_safetensors_package_writes(tmp_path: Path) -> None:
    numbers = torch.arange(6).reshape(2, 3) % 2
    tensors = {f"{prefix}.{kind}": numbers.to(kind).clone() for kind in DTYPES for prefix in "za"}
    tensors |= {"one": torch.tensor(1.5), "none": torch.zeros(0, 3), 'ü"\n\x01\\/': torch.ones(2)}

    write(tmp_path, tensors)

    wanted = save(tensors, metadata={"format": "pt"})
    assert (tmp_path / "model.safetensors").read_bytes() == wanted
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


def test_the_order_of_the_slots_is_kept_where_that_is_asked(tmp_path: Path) -> None:
    tensors = some()
    with SafetensorsWriter(
        tmp_path, slots_of(tensors), limit_bytes=EVERYTHING, as_given=True
    ) as writer:
        for name in sorted(tensors):
            writer.write(name, tensors[name])

    data = (tmp_path / "model.safetensors").read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    assert list(header) == ["__metadata__", "b", "a", "c"]
    found = load_file(tmp_path / "model.safetensors")
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())


def test_shards_have_an_index_and_a_tensor_beyond_the_limit_a_shard_of_its_own(
    tmp_path: Path,
) -> None:
    tensors = {
        name: torch.full((size,), 1.0) for name, size in zip("abcd", (2, 2, 9, 3), strict=True)
    }

    write(tmp_path, tensors, limit_bytes=16)

    files = [f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)]
    assert sorted(path.name for path in tmp_path.iterdir()) == [*files, INDEX]
    assert json.loads((tmp_path / INDEX).read_bytes()) == {
        "metadata": {"total_size": 64},
        "weight_map": {"a": files[0], "b": files[0], "c": files[1], "d": files[2]},
    }
    assert [sorted(load_file(tmp_path / name)) for name in files] == [["a", "b"], ["c"], ["d"]]


def test_threads_may_write_in_any_order(tmp_path: Path) -> None:
    tensors = {f"{number:03d}": torch.randn(number + 1, 7) for number in range(60)}
    with (
        SafetensorsWriter(tmp_path, slots_of(tensors), limit_bytes=EVERYTHING) as writer,
        ThreadPoolExecutor(4) as threads,
    ):
        list(threads.map(lambda name: writer.write(name, tensors[name]), reversed(tensors)))

    wanted = save(tensors, metadata={"format": "pt"})
    assert (tmp_path / "model.safetensors").read_bytes() == wanted


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_a_tensor_is_rounded_once_to_nearest_even_in_blocks(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    whole = torch.randn(3, BLOCK_NUMBERS // 2)
    slots = [Slot("flat", dtype, (3, BLOCK_NUMBERS // 2)), Slot("turned", dtype, whole.T.shape)]
    with SafetensorsWriter(tmp_path, slots, limit_bytes=EVERYTHING) as writer:
        writer.write("flat", whole)
        writer.write("turned", whole.T)

    found = load_file(tmp_path / "model.safetensors")
    assert torch.equal(found["flat"], whole.to(dtype))
    assert torch.equal(found["turned"], whole.T.to(dtype))


@pytest.mark.parametrize(
    ("name", "tensor", "said"),
    [
        ("aa", torch.zeros(5), "no place for the tensor aa(?s:.)*nearest: a"),
        ("nowhere at all", torch.zeros(5), "no place for the tensor nowhere at all$"),
        ("a", torch.zeros(4), r"another shape(?s:.)*\[4\], announced \[5\]"),
        ("a", torch.zeros(5, dtype=torch.int64), "is torch.int64, which cannot become"),
        ("b", torch.zeros(3, 4), "the tensor b came twice"),
    ],
)
def test_a_tensor_that_fits_no_slot_is_refused_and_nothing_is_left(
    tmp_path: Path, name: str, tensor: Tensor, said: str
) -> None:
    with pytest.raises(ModelError, match=said):
        write_some(tmp_path, ("b", torch.zeros(3, 4)), (name, tensor))

    assert list(tmp_path.iterdir()) == []


def test_tensors_that_never_came_are_named_and_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"2 tensors never came(?s:.)*a, c"):
        write_some(tmp_path, ("b", torch.zeros(3, 4)))

    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_outside_the_block(tmp_path: Path) -> None:
    writer = SafetensorsWriter(tmp_path, slots_of(some()), limit_bytes=EVERYTHING)

    with pytest.raises(ModelError, match="inside `with`"):
        writer.write("a", torch.zeros(5))


@pytest.mark.parametrize(
    ("slots", "said"),
    [
        ([], "no tensors to write"),
        ([Slot("a", torch.float32, (1,))] * 2, r"told apart(?s:.)*found  a"),
        ([Slot("__metadata__", torch.float32, (1,))], "__metadata__"),
        ([Slot("a", torch.complex128, (1,))], "no such type of number(?s:.)*complex128"),
    ],
)
def test_slots_that_are_no_file_are_refused(tmp_path: Path, slots: list[Slot], said: str) -> None:
    with pytest.raises(ModelError, match=said):
        SafetensorsWriter(tmp_path, slots, limit_bytes=EVERYTHING)


def test_a_disk_that_is_too_small_is_known_before_the_first_tensor(tmp_path: Path) -> None:
    slots = [Slot("a", torch.float32, (1 << 50,))]

    with (
        pytest.raises(StorageError, match="not enough disk space for the weights"),
        SafetensorsWriter(tmp_path, slots, limit_bytes=EVERYTHING),
    ):
        pass

    assert list(tmp_path.iterdir()) == []


def test_a_limit_that_the_system_sets_is_known_before_the_first_tensor_and_leaves_nothing(
    tmp_path: Path,
) -> None:
    slots = [Slot(name, torch.float32, (2000,)) for name in "ab"] + [
        Slot("c", torch.float32, (50_000,))
    ]
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with (
            pytest.raises(StorageError, match="File too large") as caught,
            SafetensorsWriter(tmp_path, slots, limit_bytes=20_000),
        ):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    assert caught.value.fix == "free some space, then run the same command again"
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fails_while_tensors_are_written_leaves_nothing(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill_up() -> None:
        with SafetensorsWriter(tmp_path, slots_of(some()), limit_bytes=EVERYTHING) as writer:
            resource.setrlimit(resource.RLIMIT_FSIZE, (16, before[1]))
            writer.write("a", torch.zeros(5))

    try:
        with pytest.raises(StorageError, match="File too large"):
            fill_up()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_taken_by_a_folder_is_told_and_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors" / "in the way").mkdir(parents=True)

    with pytest.raises(StorageError, match="cannot write"):
        write(tmp_path, some())

    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


def test_a_file_of_the_same_name_is_replaced_at_the_end_and_kept_after_an_error(
    tmp_path: Path,
) -> None:
    old = some()
    write(tmp_path, old)
    with pytest.raises(ModelError, match="another shape"):
        write(tmp_path, old | {"c": torch.zeros(1, 1)}, slots=slots_of(old))
    assert torch.equal(load_file(tmp_path / "model.safetensors")["a"], old["a"])

    new = some()
    write(tmp_path, new)

    assert torch.equal(load_file(tmp_path / "model.safetensors")["a"], new["a"])
    assert os.listdir(tmp_path) == ["model.safetensors"]
