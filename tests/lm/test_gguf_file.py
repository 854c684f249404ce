from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter

from nexa.core.errors import ModelError
from nexa.lm.gguf_file import GgufFile
from tests.lm.gguf_models import write_gguf
from tests.support.tiny import write_tiny_model


def write_all_types(path: Path) -> None:
    """Every type of value that there is."""
    writer = GGUFWriter(path, "llama")
    for kind, value in (
        *(("uint8", 1), ("int8", -1), ("uint16", 300), ("int16", -300), ("uint32", 70_000)),
        *(("int32", -70_000), ("uint64", 1 << 40), ("int64", -(1 << 40)), ("float32", 0.5)),
        *(("float64", 0.1), ("bool", True), ("string", "日本")),
    ):
        getattr(writer, f"add_{kind}")(f"a.{kind}", value)
    writer.add_array("a.strings", ["x", "", "é"])
    writer.add_array("a.numbers", [1, 2, 3])
    writer.add_array("a.floats", [0.5, 1.5])
    writer.add_key_value("a.nested", [[1, 2], [3]], GGUFValueType.ARRAY)
    writer.add_tensor("t", np.arange(6, dtype=np.float32).reshape(2, 3))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_metadata_and_tensors_are_what_the_gguf_packages_reader_finds(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "model")
    write_gguf(tmp_path / "x.gguf", folder, kind=GGMLQuantizationType.Q8_0)

    file = GgufFile.open(tmp_path / "x.gguf")

    reader = GGUFReader(tmp_path / "x.gguf")
    told = {name: field.contents() for name, field in reader.fields.items()}
    assert dict(file.metadata) == {k: v for k, v in told.items() if not k.startswith("GGUF.")}
    assert set(file.tensors) == {tensor.name for tensor in reader.tensors}
    for tensor in reader.tensors:
        held = file.tensors[tensor.name]
        assert (held.kind, held.offset) == (tensor.tensor_type, tensor.data_offset)
        assert held.shape == tuple(int(size) for size in reversed(tensor.shape))
        assert np.array_equal(
            file.read(tensor.name).reshape(-1), tensor.data.view(np.uint8).reshape(-1)
        )


def test_every_type_of_value_is_read(tmp_path: Path) -> None:
    write_all_types(tmp_path / "x.gguf")

    found = GgufFile.open(tmp_path / "x.gguf")

    told = {key.removeprefix("a."): value for key, value in found.metadata.items()}
    assert told["uint8"] == 1
    assert told["int8"] == -1
    assert told["uint64"] == 1 << 40
    assert told["float64"] == 0.1
    assert told["bool"] is True
    assert told["string"] == "日本"
    assert told["strings"] == ["x", "", "é"]
    assert told["numbers"] == [1, 2, 3]
    assert told["floats"] == [0.5, 1.5]
    assert told["nested"] == [[1, 2], [3]]
    assert found.read("t").view("<f4").tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "cannot mmap an empty file"),
        (b"PK\x03\x04" + bytes(30), "does not begin with GGUF"),
        (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "version 1"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "version 50331648"),
        (b"GGUF" + struct.pack("<I", 3), "unpack_from"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1 << 60), "ends within its header"),
        (
            b"GGUF"
            + struct.pack("<IQQQ", 3, 0, 1, 1)
            + b"k"
            + struct.pack("<IIQQ", 9, 8, 1, 5)
            + b"four",
            "ends within its header",
        ),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1) + b"a" + struct.pack("<I", 99), "99"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1) + b"\xff", "UnicodeDecodeError"),
    ],
)
def test_what_is_no_gguf_file_is_told(tmp_path: Path, data: bytes, why: str) -> None:
    (tmp_path / "x.gguf").write_bytes(data)

    with pytest.raises(ModelError, match=r"cannot read x\.gguf as GGUF") as caught:
        GgufFile.open(tmp_path / "x.gguf")

    assert why in str(caught.value)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot read"):
        GgufFile.open(tmp_path / "gone.gguf")


def test_a_torn_file_is_told_by_its_tensor(tmp_path: Path) -> None:
    write_all_types(tmp_path / "x.gguf")
    data = (tmp_path / "x.gguf").read_bytes()
    end = GgufFile.open(tmp_path / "x.gguf").tensors["t"]
    (tmp_path / "x.gguf").write_bytes(data[: end.offset + 8])

    with pytest.raises(ModelError, match="cannot read") as caught:
        GgufFile.open(tmp_path / "x.gguf")

    assert "the file ends before t does" in str(caught.value)


def test_rows_that_are_no_whole_blocks_are_told(tmp_path: Path) -> None:
    write_all_types(tmp_path / "x.gguf")
    data = (tmp_path / "x.gguf").read_bytes()
    info = struct.pack("<QQI", 3, 2, GGMLQuantizationType.F32)
    assert data.count(info) == 1
    other = struct.pack("<QQI", 3, 2, GGMLQuantizationType.Q8_0)
    (tmp_path / "x.gguf").write_bytes(data.replace(info, other))

    with pytest.raises(ModelError, match="cannot read") as caught:
        GgufFile.open(tmp_path / "x.gguf")

    assert "rows of t are no whole blocks of Q8_0" in str(caught.value)


def test_a_file_that_is_cut_while_it_is_read_is_told(tmp_path: Path) -> None:
    write_all_types(tmp_path / "x.gguf")
    file = GgufFile.open(tmp_path / "x.gguf")
    data = (tmp_path / "x.gguf").read_bytes()
    (tmp_path / "x.gguf").write_bytes(data[: file.tensors["t"].offset + 8])

    with pytest.raises(ModelError, match="was cut while it was read"):
        file.read("t")
