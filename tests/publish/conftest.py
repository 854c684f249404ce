"""A finished run on the tiny model and its publication, each made once and copied."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nexa.core.identity import canonical_json, sha256_file
from nexa.core.records import Artifact
from nexa.core.secrets import Secret
from nexa.lm.hub_retry import Patience
from nexa.publish import layout
from nexa.publish.hub_folder import HubFolder, folder_files
from nexa.publish.hub_remote import HubRemote
from nexa.publish.publish import PublishSpec, publish
from tests.publish.remote import TOKEN
from tests.support.chain import Chain, build_chain
from tests.support.hub_emulator import HubEmulator

REPO = "me/elements"
Edit = Callable[[dict[str, Any]], None]


@dataclass
class Publication:
    """A published folder, to be spoiled."""

    folder: Path

    def edit(self, name: str, old: str, new: str) -> None:
        """Change the text of a file."""
        path = self.folder / name
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), encoding="utf-8")

    def refresh_hashes(self) -> None:
        """What a careful forger does last: SHA256SUMS and ROOT anew, as if it were published so."""
        files = folder_files(self.folder)
        digests = {
            name: sha256_file(path)
            for name, path in files.items()
            if name not in (layout.SUMS, layout.ROOT)
        }
        sums = layout.sums_text(digests)
        (self.folder / layout.SUMS).write_bytes(sums)
        records = (self.folder / layout.RECORDS).read_bytes()
        (self.folder / layout.ROOT).write_bytes(layout.root_text(records, sums))

    def forge_record(self, role: str, edit: Edit) -> None:
        """Change a record and relink every record and role that names it, then the hashes."""
        header, *records = self.lines()
        digests = {Artifact.from_json(record).digest: record for record in records}
        edit(digests[header["roles"][role]])
        while moved := {
            old: Artifact.from_json(record).digest
            for old, record in digests.items()
            if Artifact.from_json(record).digest != old
        }:
            digests = {moved.get(old, old): record for old, record in digests.items()}
            for names in (header["roles"], *(record["inputs"] for record in records)):
                names.update({name: moved.get(digest, digest) for name, digest in names.items()})
        self.write_lines([header, *records])
        self.refresh_hashes()

    def lines(self) -> list[dict[str, Any]]:
        """records.jsonl as data."""
        data = (self.folder / layout.RECORDS).read_bytes()
        return [json.loads(line) for line in data.splitlines()]

    def write_lines(self, lines: list[dict[str, Any]]) -> None:
        """Write records.jsonl in its canonical form."""
        data = b"".join(canonical_json(line) + b"\n" for line in lines)
        (self.folder / layout.RECORDS).write_bytes(data)


@pytest.fixture(scope="session")
def chain(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Chain:
    return build_chain(tmp_path_factory.mktemp("chain"), tiny_llama)


@pytest.fixture(scope="session")
def unsafe_chain(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """The tuned model's answers hold red flags, its base's none."""
    return build_chain(tmp_path_factory.mktemp("unsafe"), tiny_llama, tuned_unsafe=True)


@pytest.fixture(scope="session")
def _published(chain: Chain, tmp_path_factory: pytest.TempPathFactory) -> Path:
    hub = tmp_path_factory.mktemp("hub")
    spec = PublishSpec(repo=REPO, target=HubFolder(hub), licence="apache-2.0")
    publish(spec, **chain.records, manifest=chain.manifest, store=chain.store)
    return hub / REPO


@pytest.fixture
def publication(_published: Path, tmp_path: Path) -> Publication:
    return Publication(shutil.copytree(_published, tmp_path / "published"))


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were asked for, huggingface_hub's own too; none is made."""
    made: list[float] = []
    clock = SimpleNamespace(**{**vars(time), "sleep": made.append})
    monkeypatch.setattr("huggingface_hub.utils._http.time", clock)
    monkeypatch.setattr("huggingface_hub.file_download.time", clock)
    return made


@pytest.fixture
def remote(hub_emulator: HubEmulator, waits: list[float]) -> HubRemote:
    """The emulated Hub as a place for publications, with a token that may write as `tester`."""
    hub_emulator.add_token(TOKEN)
    return HubRemote(hub_emulator.url, Secret(TOKEN, "the test"), Patience(sleep=waits.append))
