"""The sections of the card of a model that Nexa did not train: what is known, and what is not."""

from __future__ import annotations

from nexa.core.methods import method_name, method_told
from nexa.core.scoring import NOT_CHECKED
from nexa.publish import card_sections as sections
from nexa.publish.markdown import cell, table
from nexa.publish.records import Records

UNKNOWN = f"{NOT_CHECKED[0].upper()}{NOT_CHECKED[1:]}."


def headline(records: Records) -> list[str]:
    """What it is, the verdict, and what nobody could look for."""
    body = records.role("checkpoint").body
    base, name = f"`{cell(body.base.name)}`", method_name(body)
    what = (
        f"{'An' if name.startswith('rs') else 'A'} {name} adapter on {base}"
        if body.method == "lora"
        else f"A whole model, compared with {base},"
    )
    return [
        f"# {records.header.repo.split('/')[1]}",
        "",
        f"{what} that Nexa did not train: it was found as files, evaluated and published.",
        "",
        sections.verdict(records),
        "",
        f"**{UNKNOWN}**",
    ]


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
    if body.method == "lora":
        rows.append(["kind", cell(method_told(body))])
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
        "",
        "The files as they were found:",
        "",
        *table(["file", "sha256"], files),
    ]


def parity(records: Records) -> list[str]:
    """What was checked: a merge against base and adapter, or that a whole model is sound."""
    if records.role("checkpoint").body.method == "lora":
        return sections.parity(records)
    return [
        *sections.parity_text(
            "The files are those that were adopted. They were loaded from disk and looked "
            "through; nothing shows what training made of the base.",
        ),
        *sections.parity_checks(records),
    ]
