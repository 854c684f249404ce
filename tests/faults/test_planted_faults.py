"""Twelve planted faults: each stops the flight check with an exit code of its own and a way out.

All are real files in a real project but one: no setting of Nexa masks by token id, so the mask that
drops every token equal to the pad id is put in place of its own (`drop_the_pad_id`).
"""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from nexa.cli.main import main
from nexa.core.errors import NothingTrained
from nexa.lm.chat import ChatTemplate, Messages, Rendered
from nexa.orchestrate.check.flight import flight_check
from nexa.orchestrate.run import train
from tests.support.hub_emulator import HubEmulator
from tests.support.project import rows, write_config, write_project, write_rows
from tests.support.tiny import CHATML, tiny_model, tiny_tokenizer

NO_END = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
TOKEN = "hf_" + "readonly" * 4


@dataclass(frozen=True)
class Fault:
    """What is planted, the exit code it stops with, and words of its way out."""

    plant: Callable[[Path], object]
    exit_code: int
    check: str
    fix: str


def model_with(folder: Path, tokens: Iterable[str] = (), **tokenizer: Any) -> None:
    """A tiny model whose tokenizer differs: `tokens` are added, the rest are its settings."""
    template = tokenizer.pop("chat_template", CHATML)
    tiny_model().save_pretrained(folder / "model")
    fast = tiny_tokenizer(chat_template=template)
    for name, value in tokenizer.items():
        setattr(fast, name, value)
    fast.add_tokens(list(tokens))
    fast.save_pretrained(folder / "model")


def rename_messages(folder: Path) -> None:
    said = [{"role": "user", "content": "How?"}, {"role": "assistant", "content": "So."}]
    write_rows(folder / "train.jsonl", [{"msgs": said}] * 20)


def leak(folder: Path) -> None:
    write_rows(folder / "train.jsonl", [*rows(range(40)), *rows(range(100, 103))])


def break_weights(folder: Path) -> None:
    path = folder / "model" / "model.safetensors"
    tensors = load_file(path)
    name = sorted(tensors)[0]
    tensors[name][0] = torch.nan
    save_file(tensors, path, metadata={"format": "pt"})


def drop_the_pad_id(self: ChatTemplate, conversations: Iterable[Messages]) -> Iterator[Any]:
    """The mask of many trainers: no loss where the label equals the pad id, which here ends turns.

    `RENDER_EACH` is the real method.
    """
    pad = self.tokenizer.pad_token_id
    for result in RENDER_EACH(self, conversations):
        if isinstance(result, Rendered):
            pairs = zip(result.ids, result.trained, strict=True)
            result = replace(result, trained=[mark and token != pad for token, mark in pairs])
        yield result


def drop_it_in_batches(self: ChatTemplate, conversations: Iterable[Messages]) -> Iterator[Any]:
    """The same in batches only, as a collator does: the template's own conversation stays right."""
    every = list(conversations)
    return (drop_the_pad_id if len(every) > 1 else RENDER_EACH)(self, every)


RENDER_EACH = ChatTemplate.render_each

FAULTS = {
    "an unknown config key": Fault(
        lambda folder: write_config(folder, "./model", optimizer={"lr": 1e-3, "learning_rat": 1}),
        3,
        "config",
        "line",
    ),
    "a msgs key": Fault(rename_messages, 14, "formats", "rename the keys"),
    "everything truncated": Fault(
        lambda folder: write_config(folder, "./model", data={"max_length": 16}),
        15,
        "truncation",
        "data.max_length: auto",
    ),
    "30 % of eval leaked into train": Fault(leak, 16, "leakage", "take these rows out"),
    "a template without end-of-turn": Fault(
        lambda folder: model_with(folder, chat_template=NO_END),
        17,
        "template",
        "end the assistant's turn with the eos token",
    ),
    "double BOS": Fault(
        lambda folder: model_with(
            folder,
            bos_token="<|endoftext|>",
            chat_template="{{ bos_token }}{{ bos_token }}" + CHATML,
        ),
        19,
        "template",
        "bos",
    ),
    "mismatched vocabulary": Fault(
        lambda folder: model_with(folder, tokens=[f"<more{i}>" for i in range(40)]),
        20,
        "vocabulary",
        "resize the embedding to 340 rows",
    ),
    "NaN weights": Fault(break_weights, 21, "weights", "download or copy the model again"),
    "zero trainable parameters": Fault(
        lambda folder: write_config(folder, "./model", lora={"target_modules": ["query_key"]}),
        22,
        "trainable",
        "target_modules",
    ),
}
# Planted by a test of their own below.
OTHERS = {"pad = eos": 18, "a full disk": 11, "a read-only token": 23}


@pytest.fixture
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project that passes, as the current folder."""
    model_with(tmp_path)
    write_project(tmp_path, "./model")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def checked(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> dict[str, Any]:
    """What `nexa check --json` prints; it must end with `code`."""
    capsys.readouterr()
    assert main(["check", "--json", "-q", *words]) == code
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    return told


def test_the_twelve_have_twelve_exit_codes() -> None:
    codes = [fault.exit_code for fault in FAULTS.values()] + list(OTHERS.values())
    assert len(codes) == len(set(codes)) == 12


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_stops_with_its_own_code_and_says_what_to_do(
    clean: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    fault = FAULTS[name]
    fault.plant(clean)
    told = checked(capsys, "--no-rehearsal", code=fault.exit_code)
    first = told["findings"][0]
    assert (first["check"], first["exit_code"]) == (fault.check, fault.exit_code)
    assert first["found"]
    assert fault.fix in (first["fix"] or first["found"])
    assert main(["check", "--no-rehearsal", "-q"]) == fault.exit_code
    out = capsys.readouterr().out
    assert first["what"] in out
    assert not list((clean / ".nexa" / "checks").glob("*"))


def test_a_mask_that_drops_the_pad_id_where_it_ends_turns_is_found(
    clean: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tiny_tokenizer().pad_token == tiny_tokenizer().eos_token
    assert checked(capsys, "--no-rehearsal")["passed"]  # pad = eos alone harms no mask of ours
    monkeypatch.setattr(ChatTemplate, "render_each", drop_the_pad_id)
    told = checked(capsys, "--no-rehearsal", "--fresh", code=OTHERS["pad = eos"])
    assert told["findings"][0]["check"] == "template"
    monkeypatch.setattr(ChatTemplate, "render_each", drop_it_in_batches)
    told = checked(capsys, "--no-rehearsal", "--fresh", code=OTHERS["pad = eos"])
    [first] = told["findings"]
    assert first["check"] == "mask"
    assert "40 of 40 rows" in first["found"]
    assert "the pad token is <|im_end|> too" in first["found"]
    assert "by position" in first["fix"]


def test_a_read_only_token_is_found_before_the_training(
    clean: Path,
    hub_emulator: HubEmulator,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hub_emulator.add_token(TOKEN, role="read")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    write_config(clean, "./model", publish={"repo": "tester/it", "hub": hub_emulator.url})
    told = checked(capsys, "--no-rehearsal", code=OTHERS["a read-only token"])
    [first] = told["findings"]
    assert (first["check"], "read-only" in first["what"]) == ("token", True)
    assert "nexa login" in first["fix"]
    assert TOKEN not in json.dumps(told)
    # The token is asked about every time, also where all else is kept from a clean check.
    monkeypatch.setenv("HF_TOKEN", hub_emulator_writer(hub_emulator))
    assert checked(capsys, "--no-rehearsal")["passed"]
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    told = checked(capsys, "--no-rehearsal", code=OTHERS["a read-only token"])
    assert told["cached"]


def hub_emulator_writer(hub: HubEmulator) -> str:
    token = "hf_" + "maywrite" * 4
    hub.add_token(token)
    return token


def test_a_full_disk_is_found_by_what_is_planned(clean: Path) -> None:
    report = flight_check(clean / "config.yaml", rehearse=False, free=lambda _: 1 << 20)
    [found] = report.findings
    assert (found.check, found.exit_code) == ("disk", OTHERS["a full disk"])
    assert found.found is not None
    assert "checkpoints to resume from" in found.found
    assert found.fix is not None
    assert "NEXA_SCRATCH" in found.fix
    # Space is looked at every time, also where all else is kept from a clean check.
    assert flight_check(clean / "config.yaml", rehearse=False).passed
    again = flight_check(clean / "config.yaml", rehearse=False, free=lambda _: 1 << 20)
    assert (again.cached, again.exit_code) == (True, OTHERS["a full disk"])


@contextlib.contextmanager
def tiny_disk(place: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    made = subprocess.run(mount, check=False, capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"cannot mount: {made.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.root
@pytest.mark.parametrize("moved", ["NEXA_SCRATCH", "NEXA_DURABLE", "output"])
def test_a_tiny_file_system_is_too_small_whichever_part_lies_on_it(
    clean: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    moved: str,
) -> None:
    with tiny_disk(clean / "small") as small:
        if moved == "output":
            write_config(clean, "./model", training={"output_dir": str(small / "out")})
        else:
            monkeypatch.setenv(moved, str(small))
        told = checked(capsys, "--no-rehearsal", code=OTHERS["a full disk"])
        assert str(small) in told["findings"][0]["found"]
        assert list(small.iterdir()) == []


def test_the_clean_configuration_passes_and_the_second_check_is_kept(
    clean: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = checked(capsys)
    assert {result["state"] for result in first["results"]} == {"passed"}
    assert not first["cached"]
    assert list((clean / ".nexa" / "scratch").iterdir()) == []  # nothing is left behind
    second = checked(capsys)
    assert second["cached"]
    kept = [r for r in second["results"] if r["check"] not in ("disk", "token")]
    assert all(result in first["results"] for result in kept)
    told = checked(capsys, "--no-rehearsal")  # less was asked: its answer is not the other's
    assert not told["cached"]
    assert {r["check"] for r in told["results"] if r["state"] == "skipped"} == {"merge", "publish"}


def test_every_finding_is_told_at_once(clean: Path, capsys: pytest.CaptureFixture[str]) -> None:
    leak(clean)
    break_weights(clean)
    write_config(clean, "./model", lora={"target_modules": ["query_key"]})
    told = checked(capsys, "--no-rehearsal", code=21)
    assert [finding["exit_code"] for finding in told["findings"]] == [21, 16, 22]
    skipped = {r["check"]: r["detail"] for r in told["results"] if r["state"] == "not run"}
    assert skipped["dataset"] == "needs leakage, disk"


def test_training_does_not_start_on_a_finding(clean: Path) -> None:
    config = write_config(clean, "./model", lora={"target_modules": ["query_key"]})
    with pytest.raises(NothingTrained, match="nothing would be trained"):
        train(config, check=True)
    assert not (clean / "runs" / "manifests").exists()
