"""The card's sections on GGUF files: what they are, how they are run, how near they are.

The scores of a card are those of the merged safetensors model. A GGUF file was not scored; it was
compared with that model, and the numbers here are that comparison's, from its sealed parity.json.
"""

from __future__ import annotations

from typing import Any

from nexa.core.records import Artifact
from nexa.publish import card_sections as sections
from nexa.publish import layout
from nexa.publish.markdown import cell, table
from nexa.publish.records import Records

# A check of parity.json -> its column.
FIGURES = {
    "kl_nats": "KL, nats a token",
    "top1": "top-1 agreement",
    "largest_delta": "largest logit difference",
    "runtime_kl_nats": "KL of llama.cpp to the file's own weights",
}


def result(records: Records) -> list[str]:
    """The scores, and of what they are: no GGUF file was asked."""
    scored = sections.result(records)
    if not records.ggufs:
        return scored
    dtype = records.role("export").body.dtype
    told = (
        f"**These are the scores of the merged safetensors model ({cell(dtype)}), not of a GGUF "
        "file.** How far each GGUF file is from that model is told below."
    )
    head, *rest = scored
    return [head, "", told, *rest]


def files(records: Records) -> list[str]:
    """Each GGUF file beside the evaluated model; nothing where safetensors were published."""
    if not records.ggufs:
        return []
    rows = [
        [f"`{cell(weights_file(gguf))}`", cell(gguf.body.dtype), *_figures(gguf)]
        for gguf in records.ggufs
    ]
    absent = [[f"`{name}`", f"`{sha}`"] for name, sha in layout.not_shipped(records).items()]
    return [
        "## GGUF files against the evaluated model",
        "",
        "Each file was read back and compared with the merged safetensors model on the same short "
        "texts; all of its checks are under Parity.",
        "",
        *table(["file", "quantisation", *FIGURES.values()], rows),
        "",
        "The merged safetensors are not in this folder; their digests are sealed in the records:",
        "",
        *table(["not in this folder", "sha256"], absent),
    ]


def _figures(gguf: Artifact[Any]) -> list[str]:
    """What the proof measured, or that it did not."""
    checked = {check["name"]: check["value"] for check in gguf.body.parity["checks"]}
    return [sections.told(checked.get(name, "not measured")) for name in FIGURES]


def use(records: Records) -> list[str]:
    """The lines that run a GGUF file, from the Hub and from the folder."""
    if not records.ggufs:
        return sections.use(records)
    repo, first = records.header.repo, records.ggufs[0]
    name = repo.split("/")[1]
    tag = first.body.dtype.upper()
    others = [layout.modelfile_place(records, gguf) for gguf in records.ggufs[1:]]
    lines = [
        "## Use it",
        "",
        "From the Hub:",
        "",
        "```sh",
        f"ollama run hf.co/{repo}:{tag}",
        f"llama-cli -hf {repo}:{tag}",
        "```",
        "",
        "From this folder:",
        "",
        "```sh",
        f"ollama create {name.lower()} -f Modelfile && ollama run {name.lower()}",
        f"llama-cli -m {weights_file(first)}",
        "```",
    ]
    if others:
        named = ", ".join(f"`{cell(place)}`" for place in others)
        lines += ["", f"`Modelfile` is for the first file; the others have {named}."]
    return [*lines, *sections.use_adapter(records)]


def weights_file(gguf: Artifact[Any]) -> str:
    """The name of its GGUF file."""
    return next(file for file in gguf.files if file.endswith(".gguf"))


def parity(records: Records) -> list[str]:
    """Every check of every GGUF file, and which tensors are in another type than asked for."""
    lines: list[str] = []
    for gguf in records.ggufs:
        lines += ["", f"### Parity of `{cell(weights_file(gguf))}`", "", *sections.checks(gguf)]
        fallbacks = gguf.body.parity.get("fallbacks") or {}
        rows = [[f"`{cell(name)}`", cell(str(why))] for name, why in sorted(fallbacks.items())]
        lines += ["", *table(["in another type", "why"], rows)] if rows else []
    return lines[1:]
