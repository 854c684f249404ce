"""The tables of docs/COST_MODEL.md, made from the code that they tell of."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pydantic import BaseModel

from nexa.core.config_sections import InfraSection
from nexa.core.errors import BudgetSpent
from nexa.core.manifest import Cost
from nexa.core.records import Spent
from nexa.eval import spent
from nexa.lm.client import MESSAGE_TOKENS, TOKEN_BYTES
from nexa.lm.prices import SOURCE, TEACHERS
from nexa.lm.spending import FIRST, IN_A_ROW
from nexa.orchestrate import leaderboard_facts

# A prompt and its answer, for a figure by which prices can be compared.
TYPICAL_INPUT_TOKENS, TYPICAL_OUTPUT_TOKENS = 500, 200
PROMPTS = 1000


def run_cost_fields() -> str:
    """What a manifest says under `cost`."""
    return _fields(Cost)


def answers_cost_fields() -> str:
    """What a record of answers, judgements or scores says under `spent`."""
    return _fields(Spent)


def machine_prices() -> str:
    """The keys of config.yaml that price a machine and stop it."""
    rows = ["| key | default | what |", "|---|---|---|"]
    for name, field in InfraSection.model_fields.items():
        default = "-" if field.default is None else f"{field.default:g}"
        rows.append(f"| `infra.{name}` | {default} | {field.description} |")
    return "\n".join(rows)


def prompt_prices() -> str:
    """What 1,000 prompts of one length cost by the list prices, the cheapest model first."""
    rows = ["| model | $ for 1,000 prompts |", "|---|---|"]
    told = {
        name: PROMPTS * row.price.cost_usd(TYPICAL_INPUT_TOKENS, TYPICAL_OUTPUT_TOKENS)
        for name, row in TEACHERS.items()
    }
    rows += [f"| `{name}` | {usd:.2f} |" for name, usd in sorted(told.items(), key=_by_price)]
    tokens = f"{TYPICAL_INPUT_TOKENS} tokens in and {TYPICAL_OUTPUT_TOKENS} out a prompt"
    return "\n".join([*rows, "", f"{tokens}; {SOURCE}."])


def estimates() -> str:
    """What is known before a request goes out, and what afterwards."""
    output = "as many as it may make"
    rows = [
        "| what | `--dry-run` | set aside from the budget | kept with the answer |",
        "|---|---|---|---|",
        "| tokens of the prompt, model of this machine | its own tokenizer | - | counted |",
        f"| tokens of the prompt, API | a third of the bytes, {MESSAGE_TOKENS} a message | one a "
        f"byte, {2 * MESSAGE_TOKENS} a message | as the server tells; where it tells none, one "
        f"for {TOKEN_BYTES} bytes, marked `estimated` |",
        f"| tokens of the answer | {output} | {output} | as the server tells, or counted |",
        "| dollars, API | tokens x price | tokens x price | tokens x price |",
        "| dollars, own machine | - | - | seconds x `infra.cost_per_hour_usd` |",
    ]
    return "\n".join(rows)


def cost_sources() -> str:
    """Who names the price of an answer on the leaderboard, or why there is none."""
    rows = ["| `cost_source` | dollars for 1,000 prompts |", "|---|---|"]
    told = {
        SOURCE: "what the journal has paid, by the list price",
        "`--price`, or the name of another list": "what the journal has paid, by that price",
        spent.MACHINE: "seconds of answering x the machine's price",
        leaderboard_facts.NO_PRICE: "not known",
        leaderboard_facts.UNKNOWN_PRICE: "not known",
        leaderboard_facts.NOT_METERED: "not known",
    }
    return "\n".join([*rows, *(f"| {source} | {what} |" for source, what in told.items())])


def stops() -> str:
    """What ends work that costs money."""
    rows = [
        "| what | when | how it ends |",
        "|---|---|---|",
        "| `--budget-usd` | the next request may cost more than what is left | exit code "
        f"{BudgetSpent.exit_code}; answers are kept |",
        "| `infra.max_usd` | the training's metered time has cost so much | the training ends, and "
        "what it has is evaluated |",
        f"| the same failure for the first {FIRST} requests, or {IN_A_ROW} in a row later | at "
        "once | exit code of the failure; answers are kept |",
    ]
    return "\n".join(rows)


COST_PARTS: Mapping[str, Callable[[], str]] = {
    "run cost": run_cost_fields,
    "answers cost": answers_cost_fields,
    "machine prices": machine_prices,
    "estimates": estimates,
    "prompt prices": prompt_prices,
    "cost sources": cost_sources,
    "stops": stops,
}


def _fields(model: type[BaseModel]) -> str:
    rows = ["| field | what |", "|---|---|"]
    rows += [f"| `{name}` | {field.description} |" for name, field in model.model_fields.items()]
    return "\n".join(rows)


def _by_price(row: tuple[str, float]) -> float:
    return row[1]
