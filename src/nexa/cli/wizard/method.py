"""How to train, what to call the result, and where the work is done."""

from __future__ import annotations

from pathlib import Path

from nexa.cli.wizard.asking import Asker, Choice
from nexa.cli.wizard.dataset import Data
from nexa.cli.wizard.machine import cost
from nexa.core.hardware import Machine
from nexa.orchestrate.output import check_output
from nexa.orchestrate.start.guide import (
    PROVIDERS,
    MethodOffer,
    Model,
    best_method,
    method_offers,
    suggested_name,
)
from nexa.orchestrate.start.init import OUTPUT_DIR, Method, require_name

MEANINGS = {
    "lora": "a small adapter",
    "qlora": "a small adapter on a base in four bits: less memory while it trains",
    "dora": "a finer adapter, somewhat slower",
    "full": "all weights",
}


def ask_name(asker: Asker, given: str | None, model: Model, data: Data, project: Path) -> str:
    """The name of what comes out: of its folder, and of its repository."""

    def check(name: str) -> str:
        check_output(project / OUTPUT_DIR / require_name(name))
        return name

    asker.title("Name")
    return asker.ask(
        "Name of the trained model (folder and repository)",
        check,
        flag="name",
        given=given,
        default=suggested_name(model.reference, data.reference),
    )


def ask_method(
    asker: Asker, given: str | None, model: Model, data: Data, machine: Machine
) -> Method:
    """The method, with what each would take here."""
    asker.title("Method")
    offers = method_offers(model.shape, data.files, machine)
    chosen = asker.choose(
        "Method",
        [Choice(offer.method, f"{MEANINGS[offer.method]}: {_told(offer)}") for offer in offers],
        flag="method",
        given=given,
        default=best_method(offers),
    )
    offer = next(offer for offer in offers if offer.method == chosen)
    if not offer.estimate.fits:
        asker.tell(
            "It may not fit in memory: the flight check will say before anything is trained."
        )
    return offer.method


def ask_mode(asker: Asker, given: str | None) -> str:
    """Where to train."""
    asker.title("Where to train")
    return asker.choose(
        "Where",
        [Choice(name, PROVIDERS[name].summary) for name in PROVIDERS.names()],
        flag="mode",
        given=given,
        default="local",
    )


def _told(offer: MethodOffer) -> str:
    return f"about {cost(offer.estimate)}, {offer.steps:,} steps"
