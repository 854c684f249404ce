"""The model card: README.md, written from nexa/records.jsonl and from nothing else.

`render_card` is pure, so `nexa verify` renders it again and compares byte for byte: a number that
was edited by hand is found even if every hash was refreshed. A new layout gets a new version and
the old one stays, or older publications would no longer verify. A model that Nexa did not train has
a card of its own: `card_adopted.py`.
"""

from __future__ import annotations

from collections.abc import Callable

from nexa.core.errors import IntegrityError
from nexa.core.methods import ending_told, method_name, method_told
from nexa.core.records import CheckpointBody
from nexa.publish import card_adopted as adopted
from nexa.publish import card_gguf as gguf
from nexa.publish import card_sections as sections
from nexa.publish.card_statistics import statistics
from nexa.publish.front_matter import front_matter
from nexa.publish.markdown import cell, number, table
from nexa.publish.records import Records

CARD_VERSION = "2"
ADOPTED_CARD = "adopted/1"
Section = Callable[[Records], list[str]]


def render_card(records: Records) -> str:
    """The card of a publication, in the layout that its header names.

    Raises:
        IntegrityError: a card version that this nexa does not know, or one for other models.
    """
    version = records.header.card_version
    if version not in CARDS:
        raise IntegrityError(
            f"the card has the layout version {version!r}",
            found="this nexa knows " + ", ".join(CARDS),
            fix="pip install --upgrade nexa-compute",
        )
    if (version == ADOPTED_CARD) != records.adopted:
        raise IntegrityError(
            f"the card has the layout version {version!r}, which is for other models"
        )
    return CARDS[version](records)


def _card_v1(records: Records) -> str:
    return _trained(records, _training)


def _card_v2(records: Records) -> str:
    """How the training ended, too: before its time, at another step, or after a loss spike."""
    return _trained(records, _training_and_its_end)


def _trained(records: Records, training: Section) -> str:
    return _written(
        records,
        _headline,
        gguf.result,
        sections.domains,
        statistics,
        sections.safety,
        sections.forgetting,
        gguf.files,
        gguf.use,
        training,
        _data,
        sections.cost,
        sections.parity,
        gguf.parity,
        sections.verify,
    )


def _adopted_v1(records: Records) -> str:
    return _written(
        records,
        adopted.headline,
        gguf.result,
        sections.domains,
        statistics,
        sections.safety,
        adopted.forgetting,
        gguf.files,
        gguf.use,
        adopted.origin,
        sections.cost,
        adopted.parity,
        gguf.parity,
        sections.verify,
    )


def _written(records: Records, *parts: Section) -> str:
    written = (part(records) for part in parts)
    body = "\n\n".join("\n".join(lines) for lines in written if lines)
    return f"{front_matter(records)}\n{body}\n"


CARDS: dict[str, Callable[[Records], str]] = {
    "1": _card_v1,
    CARD_VERSION: _card_v2,
    ADOPTED_CARD: _adopted_v1,
}


def _headline(records: Records) -> list[str]:
    checkpoint = records.role("checkpoint").body
    name = method_name(checkpoint)
    article = "an" if name.startswith("rs") else "a"
    adapter = f"{article} {name} adapter, merged"
    form = ", as GGUF" if records.ggufs else ""
    method = adapter if checkpoint.method == "lora" else f"{name} trained"
    return [
        f"# {records.header.repo.split('/')[1]}",
        "",
        f"`{cell(checkpoint.base.name)}`, fine-tuned ({method}{form}) on {checkpoint.rows} rows.",
        "",
        sections.verdict(records),
    ]


def _training(records: Records) -> list[str]:
    rows = _training_rows(records.role("checkpoint").body)
    return ["## Training", "", *table(["", ""], rows)]


def _training_and_its_end(records: Records) -> list[str]:
    body = records.role("checkpoint").body
    rows = _training_rows(body) + [[name, cell(value)] for name, value in ending_told(body)]
    return ["## Training", "", *table(["", ""], rows)]


def _training_rows(body: CheckpointBody) -> list[list[str]]:
    rows = [
        ["base", f"`{cell(body.base.name)}` ({cell(body.base.origin)})"],
        ["base digest", f"`{body.base.digest}`"],
    ]
    if body.base.quantisation:
        rows.append(["base dequantised from", cell(body.base.quantisation)])
    if body.base.source_sha256:
        rows.append(["base's source, sha256", f"`{body.base.source_sha256}`"])
    if body.method == "lora":
        rows.append(["method", cell(method_told(body))])
    else:
        rows.append(["method", "full"])
    rows += [
        ["trained parameters", f"{body.trainable_parameters:,}"],
        ["rows", f"{body.rows:,}"],
        ["epochs, steps", f"{body.epochs:g}, {body.steps}"],
        ["tokens trained", f"{body.tokens_trained:,}, {body.label_tokens:,} of them bore loss"],
        [
            "loss",
            f"{number(body.first_loss)} at the first step, {number(body.final_loss)} at the end",
        ],
        ["precision, seed", f"{body.precision}, {body.seed}"],
        ["engine", cell(body.engine)],
        ["weights, sha256", f"`{body.weights_sha256}`"],
    ]
    return rows


def _data(records: Records) -> list[str]:
    dataset = records.role("dataset")
    body = dataset.body
    splits = ", ".join(f"{name} {split.rows}" for name, split in sorted(body.splits.items()))
    dropped = ", ".join(f"{cell(reason)} {n}" for reason, n in sorted(body.dropped.items()))
    rows = [[f"`{cell(name)}`", f"`{digest}`"] for name, digest in sorted(body.sources.items())]
    return [
        "## Data",
        "",
        f"`{dataset.name}@{dataset.version}`, format {cell(body.format)}: {body.rows_read} rows "
        f"read; kept: {splits}; dropped: {dropped or 'none'}.",
        "",
        *_taught(records),
        *table(["source", "sha256"], rows),
    ]


def _taught(records: Records) -> list[str]:
    """Who wrote rows of the data that nobody wrote by hand; nothing where none did."""
    lines: list[str] = []
    for artifact in records.artifacts.values():
        if artifact.kind == "synthetic":
            body = artifact.body
            served = f" ({cell(', '.join(body.served))})" if body.served else ""
            lines += [
                f"A teacher, {cell(body.teacher)}{served}, wrote {body.rows} rows of it by "
                f"`{cell(body.method)}`, before the filters.",
                "",
            ]
    return lines
