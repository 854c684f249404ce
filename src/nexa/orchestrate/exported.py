"""The folder of an export: the sealed record's files, a card of facts, and export.json.

model.safetensors config.json tokenizer...   or   NAME.gguf Modelfile
parity.json     that it is the model it came from
README.md       what it is and how it is run; every fact from the record
export.json     label, digest, lineage and the command that made it, and the files' digests
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nexa.core.identity import sha256_file
from nexa.core.lineage import walk
from nexa.core.records import Artifact
from nexa.core.store import Store
from nexa.orchestrate.output import EXPORTED, write_output
from nexa.orchestrate.run_state import Run
from nexa.publish.markdown import cell, table

README = "README.md"
# What a line of lineage names.
MADE_OF = ("export", "checkpoint", "adopted", "dataset", "model")


@dataclass(frozen=True)
class Exported:
    """What a user has in the end."""

    artifact: Artifact[Any]
    folder: Path
    sizes: Mapping[str, int]
    """Each file's size in bytes."""
    run_id: str
    reused: bool
    """Whether an equal command had made it before."""

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "label": self.artifact.label,
            "digest": self.artifact.digest,
            "folder": str(self.folder),
            "files": dict(self.sizes),
            "run_id": self.run_id,
            "reused": self.reused,
            "body": self.artifact.body.model_dump(mode="json"),
        }


def write_folder(run: Run, artifact: Artifact[Any], folder: Path, command: str) -> Exported:
    """Give the user a copy of a sealed model, with its card; told in the run's manifest.

    What is there already is not written again; a folder whose writing was stopped is made whole.

    Raises:
        StorageError: no space, no permission.
    """
    store = run.tiers.store
    lineage = lineage_of(artifact, store)
    readme = run.scratch / README
    readme.write_text(card(artifact, lineage), encoding="utf-8")
    files = {name: store.path(artifact, name) for name in artifact.files} | {README: readme}
    facts = {
        "run_id": run.run_id,
        "label": artifact.label,
        "digest": artifact.digest,
        "kind": artifact.kind,
        "lineage": lineage,
        "command": command,
        "records": dict(sorted(run.ledger.manifest.outputs.items())),
    }
    write_output(folder, files, facts, EXPORTED, sealed=artifact.files)
    digests = {**run.ledger.manifest.digests, "export": sha256_file(folder / EXPORTED.name)}
    run.ledger.amend(output_dir=str(folder.absolute()), digests=digests)
    sizes = {name: (folder / name).stat().st_size for name in sorted(files)}
    reused = set(run.ledger.manifest.outputs) == set(run.ledger.manifest.reused)
    return Exported(artifact, folder, sizes, run.run_id, reused)


def lineage_of(artifact: Artifact[Any], store: Store) -> str:
    """One line: the model, and by arrows what it was made from, down to data and base."""
    found, asked = [], 1 << 30
    for node in walk(artifact, store):
        if node.depth > asked:
            continue  # behind a suite: rows that were asked, and not learnt
        kind = node.artifact.kind if node.artifact else node.step
        asked = node.depth if kind == "suite" else 1 << 30
        if kind in MADE_OF:
            found.append(node.label)
    return " \u2190 ".join(dict.fromkeys(found))


def card(artifact: Artifact[Any], lineage: str) -> str:
    """README.md: what the record says, and how the model is run."""
    rows = [[cell(name), cell(value)] for name, value in _facts(artifact, lineage)]
    lines = [f"# {cell(artifact.name)}", "", *table(["", ""], rows), "", "## How to run it", ""]
    return "\n".join([*lines, *how_to_run(artifact), ""])


def _facts(artifact: Artifact[Any], lineage: str) -> Iterator[tuple[str, str]]:
    body = artifact.body
    if artifact.kind == "export":
        weights = "quantisation" if body.format == "gguf" else "weights"
        yield "format", "GGUF" if body.format == "gguf" else body.format
        yield weights, body.dtype
        for number, parent in enumerate(body.parents or [], 1):
            yield f"parent {number}", f"{parent.name} ({parent.digest[:16]})"
        if body.recipe is not None:
            yield "merged by", str(body.recipe.get("method", "a recipe"))
    base = body.base
    yield "base", f"{base.name} ({base.digest[:16]})"
    if base.quantisation is not None:
        yield "base was dequantised from", base.quantisation
    yield from proof(body.parity or {})
    yield "lineage", lineage
    yield "record", f"{artifact.label} ({artifact.digest[:16]})"


def proof(parity: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What parity.json says, in short: how many checks passed, and the distances it measured."""
    checks = parity.get("checks", [])
    passed = sum(bool(check["passed"]) for check in checks)
    yield "proof", f"{passed} of {len(checks)} checks passed (parity.json)"
    for check in checks:
        if "kl" in check["name"].lower().split("_") and isinstance(check["value"], float):
            by = ", llama.cpp's logits" if check["name"].startswith("runtime") else ""
            told = f"{check['value']:.3g} nats a token (limit {check['limit']})"
            yield f"KL divergence{by}", told


def how_to_run(artifact: Artifact[Any]) -> list[str]:
    """Lines of Markdown; for people that have the folder and no Nexa."""
    if artifact.kind != "export":
        return [
            "```python",
            "from peft import AutoPeftModelForCausalLM",
            "",
            'model = AutoPeftModelForCausalLM.from_pretrained(".")',
            "```",
        ]
    if artifact.body.format == "gguf":
        file = next(name for name in artifact.files if name.endswith(".gguf"))
        return [
            "```sh",
            f"llama-cli -m {file}",
            f"ollama create {artifact.name} -f Modelfile && ollama run {artifact.name}",
            f"nexa chat ./{file}",
            "```",
        ]
    return [
        "```python",
        "from transformers import pipeline",
        "",
        'answer = pipeline("text-generation", model=".")',
        'print(answer([{"role": "user", "content": "Hello"}]))',
        "```",
    ]
