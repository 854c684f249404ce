"""What the commands that ask a teacher share: its options, its price, what a dry run shows."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from nexa.cli.show import Cell, Output

if TYPE_CHECKING:
    from nexa.core.records import SyntheticBody
    from nexa.lm.client import Price
    from nexa.orchestrate.teaching import Preview


class PriceType(click.ParamType[tuple[float, float]]):
    """`IN,OUT`: dollars for a million tokens."""

    name = "price"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, float]:
        """Two numbers that are no debts."""
        if isinstance(value, tuple):
            return value
        try:
            given, made = (float(part) for part in re.split("[,/]", str(value)))
        except ValueError:
            self.fail(f"{value!r} is not two numbers, as in 2.5,10", param, ctx)
        if not all(math.isfinite(dollars) and dollars >= 0 for dollars in (given, made)):
            self.fail(f"{value!r}: a price is 0 or more", param, ctx)
        return given, made


def teacher_options(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of a teacher, which it gets as one `Choice`."""

    @click.option(
        "--teacher",
        required=True,
        metavar="MODEL",
        help="An alias (gpt-4o), openai:MODEL, anthropic:MODEL, MODEL@URL, or local weights.",
    )
    @click.option("--base-url", metavar="URL", help="An OpenAI-compatible server to ask.")
    @click.option(
        "--price",
        type=PriceType(),
        metavar="IN,OUT",
        help="Dollars for a million tokens in and out, where the table has none or another.",
    )
    @click.option(
        "--budget-usd",
        type=click.FloatRange(min=0, min_open=True),
        metavar="X",
        help="Never spend more than this; what was answered by then is kept.",
    )
    @click.option(
        "--concurrency",
        type=click.IntRange(min=1),
        metavar="N",
        help="Requests under way at once.",
    )
    @click.option(
        "--per-minute",
        type=click.IntRange(min=1),
        metavar="N",
        help="Requests a minute at most.",
    )
    @functools.wraps(function)
    def run(
        *,
        teacher: str,
        base_url: str | None,
        price: tuple[float, float] | None,
        budget_usd: float | None,
        concurrency: int | None,
        per_minute: int | None,
        **parameters: Any,
    ) -> None:
        from nexa.orchestrate.teaching import Choice

        choice = Choice(
            name=teacher,
            base_url=base_url,
            price=price_of(price),
            budget_usd=budget_usd,
            concurrency=concurrency,
            per_minute=per_minute,
        )
        function(choice=choice, **parameters)

    return run


def preview_pairs(found: Preview) -> dict[str, Cell]:
    """What a dry run shows."""
    pairs: dict[str, Cell] = {
        "teacher": found.teacher,
        "rows at most": found.rows,
        "requests": found.requests,
        "answered already": found.cached,
        "input tokens at most": found.input_tokens,
        "output tokens at most": found.output_tokens,
    }
    if found.usd is None:
        pairs["cost"] = "unknown: --price IN,OUT says what a million tokens cost"
    else:
        pairs["cost"] = f"{found.usd:.4f} USD at most ({found.price_source})"
    return pairs


def synthetic_pairs(body: SyntheticBody) -> dict[str, Cell]:
    """What a teacher's work came to."""
    pairs: dict[str, Cell] = {
        "teacher": f"{body.teacher} ({', '.join(body.served)})",
        "requests": f"{body.requested:,}, {body.answered:,} answered, {body.cached:,} of them "
        "before",
        "rows written": body.rows,
    }
    pairs |= {f"without a row, {reason}": count for reason, count in body.rejected.items()}
    pairs["tokens"] = f"{body.input_tokens:,} in, {body.output_tokens:,} out"
    known = body.cost_usd is not None
    pairs["cost"] = f"{body.cost_usd:.4f} USD ({body.price_source})" if known else "unknown"
    return pairs


def tell_preview(out: Output, found: Preview) -> None:
    """The dry run of a job."""
    out.pairs(preview_pairs(found))
    out.say("Nothing was sent, nothing was written.")


def tell_previews(out: Output, found: Sequence[Preview]) -> None:
    """The dry runs of several jobs."""
    for each in found:
        tell_preview(out, each)


def price_of(given: tuple[float, float] | None) -> Price | None:
    """A price that was given on the command line."""
    if given is None:
        return None
    from nexa.lm.client import Price

    return Price(*given, source="--price")
