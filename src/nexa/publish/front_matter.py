"""The card's first block: what the Hub reads of a model, as YAML.

Scalars are written as JSON, which YAML contains, so no library's taste enters the card's bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from nexa.core.methods import quantised
from nexa.core.records import ModelRef
from nexa.publish.records import Records


def front_matter(records: Records) -> str:
    """The block with its fences and a last line break."""
    return "---\n" + "\n".join(_yaml(_metadata(records))) + "\n---\n"


def hub_id(base: ModelRef) -> str | None:
    """The Hub id of a base model, if it came from the Hub (`hub:ORG/NAME@REVISION`)."""
    if not base.origin.startswith("hub:"):
        return None
    return base.origin.removeprefix("hub:").partition("@")[0]


def _metadata(records: Records) -> dict[str, Any]:
    header = records.header
    found: dict[str, Any] = {
        **_relation(records),
        "library_name": _library(records),
        "pipeline_tag": "text-generation",
        "tags": ["nexa", *_kinds(records), header.format],
    }
    if header.licence:
        found["license"] = header.licence
    return found | {"model-index": [_model_index(records)]}


def _relation(records: Records) -> dict[str, Any]:
    """What it was made from, and how.

    It is told, because the Hub would guess from a .gguf file that the base itself was quantised.
    """
    checkpoint, export = records.role("checkpoint").body, records.role("export").body
    if export.parents:
        merged = dict.fromkeys(hub_id(parent) or parent.name for parent in export.parents)
        return {"base_model": list(merged), "base_model_relation": "merge"}
    return {
        "base_model": hub_id(checkpoint.base) or checkpoint.base.name,
        "base_model_relation": "finetune" if records.header.merge_adapters else "adapter",
    }


def _library(records: Records) -> str:
    """What loads the files at the root."""
    if records.ggufs:
        return "gguf"
    return "transformers" if records.header.merge_adapters else "peft"


def _kinds(records: Records) -> list[str]:
    """How it was made, as people search for it: the method, and what is more than LoRA."""
    checkpoint = records.role("checkpoint").body
    if records.role("export").body.parents:
        return ["merge"]
    variants = checkpoint.variant.split("+") if checkpoint.variant else []
    return [checkpoint.method, *(["qlora"] if quantised(checkpoint) else []), *variants]


def _model_index(records: Records) -> dict[str, Any]:
    suite, report = records.role("suite"), records.role("report").body
    metrics = [
        {"type": name, "name": f"{name} (tuned)", "value": round(interval.mean, 6)}
        for name, interval in sorted(report.tuned.items())
    ]
    result = {
        "task": {"type": "text-generation"},
        "dataset": {"type": suite.name, "name": f"{suite.name}@{suite.version}"},
        "metrics": metrics,
    }
    return {"name": records.header.repo.split("/")[1], "results": [result]}


def _yaml(value: Any, indent: str = "") -> list[str]:
    """Block YAML of nested mappings and lists with JSON scalars."""
    lines = []
    if isinstance(value, Mapping):
        for key, item in value.items():
            if isinstance(item, Mapping | list):
                deeper = indent if isinstance(item, list) else indent + "  "
                lines += [f"{indent}{key}:", *_yaml(item, deeper)]
            else:
                lines.append(f"{indent}{key}: {_scalar(item)}")
        return lines
    for item in value:
        if isinstance(item, Mapping):
            first, *rest = _yaml(item, indent + "  ")
            lines += [f"{indent}- {first.lstrip()}", *rest]
        else:
            lines.append(f"{indent}- {_scalar(item)}")
    return lines


def _scalar(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
