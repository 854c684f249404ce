"""A publication to upload, and what is asked of the tests that upload it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from nexa.core import events
from nexa.core.events import Event
from nexa.core.identity import sha256_bytes
from nexa.publish import layout

REPO = "tester/m"
TOKEN = "hf_" + "t" * 34
CARD = b"---\nlicense: mit\n---\nA card\n"
WEIGHTS = os.urandom(300_000)
ADAPTER = os.urandom(120_000)
Files = dict[str, bytes | Path]


def publication(card: bytes = CARD, **files: bytes) -> Files:
    """The files of a publication, its own list of them among them."""
    whole: dict[str, bytes] = {
        "README.md": card,
        "config.json": b"{}",
        "model.safetensors": WEIGHTS,
        "adapter/adapter_model.safetensors": ADAPTER,
        layout.RECORDS: b"{}\n",
        **files,
    }
    sums = layout.sums_text({name: sha256_bytes(data) for name, data in whole.items()})
    root = layout.root_text(whole[layout.RECORDS], sums)
    return {**whole, layout.SUMS: sums, layout.ROOT: root}


def notes(action: Callable[[], object]) -> list[str]:
    """What is told meanwhile."""
    heard: list[Event] = []
    with events.listening(heard.append):
        action()
    return [event["text"] for event in heard if event["kind"] == "note"]
