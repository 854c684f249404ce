from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from nexa.lm.llama_cpp import available
from nexa.lm.llama_cpp_server import load, parameters
from tests.lm.gguf_models import write_gguf
from tests.lm.lively import write_lively

pytestmark = pytest.mark.skipif(available() is not None, reason=str(available()))


def job(path: Path, folder: str) -> dict[str, Any]:
    return {
        "path": str(path),
        "socket": str(Path(folder) / "llama.sock"),
        "positions": 64,
        "threads": 1,
    }


def test_it_says_when_it_is_ready_and_ends_with_its_parent(tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf", write_lively(tmp_path / "model").folder)
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        words = [sys.executable, "-m", "nexa.lm.llama_cpp_server"]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
            assert child.stdin is not None
            assert child.stdout is not None
            child.stdin.write(json.dumps(job(tmp_path / "m.gguf", folder)).encode() + b"\n")
            child.stdin.flush()
            assert child.stdout.readline() == b"ready\n"
            assert (Path(folder) / "llama.sock").is_socket()
            child.stdin.close()
            assert child.stdout.read() == b""
    assert child.returncode == 0


def test_a_file_that_cannot_be_loaded_is_complained_of(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert load(job(tmp_path / "none.gguf", str(tmp_path))) is None
    out, err = capfd.readouterr()
    assert out == ""
    assert "No such file" in err
    assert "Failed to init server" in err


def test_keys_and_values_are_float32_and_nothing_is_sampled_or_shared(tmp_path: Path) -> None:
    from xllamacpp import ggml_type, llama_flash_attn_type

    told = parameters(job(tmp_path / "m.gguf", str(tmp_path)))
    assert (told.cache_type_k, told.cache_type_v) == (ggml_type.GGML_TYPE_F32,) * 2
    assert told.flash_attn_type == llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    assert (told.n_parallel, told.n_gpu_layers, told.n_ctx) == (1, 0, 65)
