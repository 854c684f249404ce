"""The sections of the card of a model that Nexa did not train: what is known, and what is not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from nexa.core.methods import method_name, method_told
from nexa.core.records import ExportBody
from nexa.core.scoring import NOT_CHECKED
from nexa.publish import card_sections as sections
from nexa.publish.markdown import cell, table
from nexa.publish.records import Records

UNKNOWN = f"{NOT_CHECKED[0].upper()}{NOT_CHECKED[1:]}."


def headline(records: Records) -> list[str]:
    """What it is, the verdict, and what nobody could look for."""
    return [
        f"# {records.header.repo.split('/')[1]}",
        "",
        _what(records),
        "",
        sections.verdict(records),
        "",
        f"**{UNKNOWN}**",
    ]


def _what(records: Records) -> str:
    body, parents = records.role("checkpoint").body, records.role("export").body.parents
    base, name = f"`{cell(body.base.name)}`", method_name(body)
    form = " as GGUF" if records.ggufs else ""
    if parents:
        named = ", ".join(f"`{cell(parent.name)}`" for parent in parents)
        return f"A merge of {named}, compared with {base}, evaluated and published{form}."
    if body.recipe is not None:
        return f"An adapter on {base} that others were merged into, evaluated and published{form}."
    what = (
        f"{'An' if name.startswith('rs') else 'A'} {name} adapter on {base}"
        if body.method == "lora"
        else f"A whole model, compared with {base},"
    )
    return f"{what} that Nexa did not train: it was found as files, evaluated and published{form}."


def forgetting(records: Records) -> list[str]:
    """As for other models, but that contamination could not be looked for."""
    return [
        *sections.general_text(records),
        "",
        f"{UNKNOWN} If rows of the suite were trained on, the scores above prove nothing.",
    ]


def origin(records: Records) -> list[str]:
    """Which files were adopted, on which base, and what is not known of them."""
    body = records.role("checkpoint").body
    rows = [
        ["base", f"`{cell(body.base.name)}` ({cell(body.base.origin)})"],
        ["base named by", cell(body.base_named_by)],
        ["base digest", f"`{body.base.digest}`"],
    ]
    export = records.role("export").body
    if body.method == "lora":
        rows.append(["kind", cell(method_told(body))])
    elif export.parents:
        rows.append(["kind", "a merge of models"])
    else:
        rows.append(["kind", "a whole model, its files as they were found"])
    if body.trainer_step is not None:
        rows.append(["step", f"{body.trainer_step}, by the word of the Trainer that saved it"])
    rows += [
        ["training data, settings and cost", "unknown to Nexa"],
        ["left out", cell(", ".join(body.left_out)) or "nothing"],
    ]
    files = [[f"`{cell(name)}`", f"`{digest}`"] for name, digest in sorted(body.found.items())]
    return [
        "## Origin",
        "",
        *table(["", ""], rows),
        *_merge(export),
        *_merge_of_adapters(records),
        "",
        f"The files as they were {'merged' if export.parents else 'found'}:",
        "",
        *table(["file", "sha256"], files),
    ]


def _merge(export: ExportBody) -> list[str]:
    """The models that were merged, in order, and how; nothing where none were."""
    if not export.parents:
        return []
    rows = [
        [str(number), f"`{cell(parent.name)}` ({cell(parent.origin)})", f"`{parent.digest}`"]
        for number, parent in enumerate(export.parents, 1)
    ]
    return _merged("model", rows, export.recipe)


def _merge_of_adapters(records: Records) -> list[str]:
    """The adapters that were merged into this one, and how; nothing where none were."""
    checkpoint = records.role("checkpoint")
    if checkpoint.body.recipe is None:
        return []
    parents = [records.artifacts[digest] for _, digest in sorted(checkpoint.inputs.items())]
    rows = [[str(n), f"`{cell(p.label)}`", f"`{p.digest}`"] for n, p in enumerate(parents, 1)]
    return _merged("adapter", rows, checkpoint.body.recipe)


def _merged(what: str, rows: list[list[str]], recipe: Mapping[str, Any] | None) -> list[str]:
    told = json.dumps(recipe or {}, indent=2, ensure_ascii=False, sort_keys=True)
    return [
        "",
        "Merged from:",
        "",
        *table(["", what, "digest"], rows),
        "",
        "by this recipe:",
        "",
        "```json",
        *told.replace("`", "'").splitlines(),
        "```",
    ]


def parity(records: Records) -> list[str]:
    """What was checked: a merge against base and adapter, or that a whole model is sound."""
    if records.role("checkpoint").body.method == "lora":
        return sections.parity(records)
    return [
        *sections.parity_text(
            "The files are those that were "
            + (
                "merged; that the merge is what its recipe says was proved when it was made. "
                if records.role("export").body.parents
                else "adopted. "
            )
            + "They were loaded from disk and looked through; nothing shows what training made of "
            "the base.",
        ),
        *sections.parity_checks(records),
    ]
