"""Whether what the model would read is worth training on: template, mask, length, leaks."""

from __future__ import annotations

import math
from collections import Counter

from nexa.core.errors import LeakError, MaskError, TemplateError, TruncationError
from nexa.core.overlap import leaks
from nexa.core.records import Artifact, DatasetBody
from nexa.data.filters.lengths import MAX_LOST, choose_length, positions_of, quantiles
from nexa.data.rows import Row
from nexa.lm.chat import Rendered
from nexa.orchestrate import plan, sealed_data
from nexa.orchestrate.check.state import Flight
from nexa.orchestrate.merge_data import suite_of
from nexa.orchestrate.runner import run_step

# The share of held-out rows that may have a training row giving them away. `prepare` leaves such
# training rows out, so a few do no harm: short questions that were asked twice. A split that was
# made right shares none; one row in twenty says that it was not, and then the paraphrases that no
# filter sees are there too. It is also what an evaluation can bear: with 64 rows the interval of a
# score is about 0.1 to each side, and leaks of a twentieth move it by at most half of that.
LEAKED_ALLOWED = 0.05
NAMED = 3  # rows that a message names


def template(flight: Flight) -> str:
    """The chat template renders, is prefix-stable, ends a turn and begins with one BOS at most.

    Raises:
        TemplateError: it does not; BosError for the beginning, MaskError for the end.
    """
    chat = flight.template
    chat.check()
    whose = "the tokenizer's own" if chat.name == "tokenizer" else "none: turns are plain lines"
    end = chat.tokenizer.convert_ids_to_tokens(chat.end_of_turn[-1])
    return f"{whose}; a turn ends with {end}"


def mask(flight: Flight) -> str:
    """In every row all of each answer bears loss, its end-of-turn token too, and nothing else.

    Raises:
        MaskError: names the rows.
        TemplateError: the template takes none of the rows.
    """
    labels = 0
    wrong: list[tuple[Row, str]] = []
    refused: list[tuple[Row, TemplateError]] = []
    for row, result in zip(flight.train_rows, flight.rendered, strict=True):
        if isinstance(result, TemplateError):
            refused.append((row, result))
            continue
        labels += sum(result.trained)
        why = _mask_fault(result, flight.template.end_of_turn)
        if why:
            wrong.append((row, why))
    good = len(flight.rendered) - len(refused)
    if not good and refused:
        raise refused[0][1]
    if wrong:
        raise _mask_error(flight, wrong, good)
    flight.facts["label_tokens"] = labels
    told = f", {len(refused)} rows refused by the template" if refused else ""
    return f"{labels:,} tokens bear loss in {good:,} rows, every answer with its end of turn{told}"


def _mask_fault(result: Rendered, end_of_turn: tuple[int, ...]) -> str:
    """Why a row's mask is not what its answers are, or nothing."""
    outside = sum(result.trained)
    if not outside:
        return "no token bears loss"
    for start, end in result.answers:
        inside = result.trained[start:end]
        outside -= sum(inside)
        if result.ids[end - 1] != end_of_turn[-1] or not inside[-1]:
            return "its end-of-turn token does not bear loss"
        if not all(inside):
            return f"{inside.count(False)} tokens inside an answer do not bear loss"
    return f"{outside} tokens outside the answers bear loss" if outside else ""


def _mask_error(flight: Flight, wrong: list[tuple[Row, str]], total: int) -> MaskError:
    chat = flight.template
    row, why = wrong[0]
    end = chat.tokenizer.convert_ids_to_tokens(chat.end_of_turn[-1])
    shared = chat.tokenizer.pad_token_id == chat.end_of_turn[-1]
    cause = f"\nthe pad token is {end} too: a mask by token id drops both" if shared else ""
    return MaskError(
        "the loss mask is wrong: the model would not learn to stop"
        if "end-of-turn" in why
        else "the loss mask is wrong",
        found=f"{len(wrong):,} of {total:,} rows, first {row.line.origin}: {why}{cause}",
        fix=f"mask padding by position, never by its id, or give the tokenizer a pad token that is "
        f"not {end}; nexa data mask shows what is trained",
    )


def truncation(flight: Flight) -> str:
    """At most one row in a hundred is longer than what the model will read of it.

    Raises:
        TruncationError: more are.
    """
    long = [
        (row, len(result.ids))
        for row, result in zip(flight.train_rows, flight.rendered, strict=True)
        if not isinstance(result, TemplateError)
    ]
    if not long:
        return "no row to measure"
    lengths = [tokens for _, tokens in long]
    flight.facts["tokens_a_row"] = sum(lengths) / len(lengths)
    found = quantiles(lengths)
    asked, positions = flight.config.data.max_length, positions_of(flight.base.config)
    limit = choose_length(found, positions) if asked == "auto" else asked
    if positions is not None and limit > positions:
        raise TruncationError(
            f"max_length {limit:,} is more than the model has positions for",
            found=f"{flight.base.name}: {positions:,}",
            fix=f"data.max_length: {positions}",
        )
    over = [(row, tokens) for row, tokens in long if tokens > limit]
    if len(over) > MAX_LOST * len(long):
        row, tokens = over[0]
        raise TruncationError(
            f"{len(over):,} of {len(long):,} rows do not fit into {limit:,} tokens: their answers "
            "would be cut or left out",
            found=f"{row.line.origin}: {tokens:,} tokens; "
            + ", ".join(f"{name} {value:,}" for name, value in found.items()),
            fix=_length_fix(max(lengths), positions),
        )
    lost = f", {len(over)} longer rows are left out" if over else ""
    return f"at most {limit:,} tokens a row, the longest has {max(lengths):,}{lost}"


def _length_fix(longest: int, positions: int | None) -> str:
    if positions is not None and longest > positions:
        return f"shorten the rows: the model has {positions:,} positions (data.max_length: auto)"
    return f"data.max_length: auto, or {math.ceil(longest / 64) * 64}"


def leakage(flight: Flight) -> str:
    """Hardly any held-out row has a training row that gives it away.

    Raises:
        LeakError: more than `LEAKED_ALLOWED` of them have; names the first.
    """
    train, held_out = flight.train_rows, flight.held_out_rows
    if not held_out:
        share = flight.config.data.eval_fraction
        return f"{share:.0%} of the rows are held out, whole groups at a time"
    hits = leaks([row.example for row in train], [row.example for row in held_out])
    first = {hit.eval_index: hit for hit in reversed(hits)}
    if len(first) > LEAKED_ALLOWED * len(held_out):
        shown = "\n".join(
            f"{held_out[index].line.origin} is {hit.reason} ({hit.score:.2f}) with "
            f"{train[hit.train_index].line.origin}"
            for index, hit in sorted(first.items())[:NAMED]
        )
        raise LeakError(
            f"{len(first):,} of {len(held_out):,} held-out rows are given away by training rows "
            f"({len(first) / len(held_out):.0%}; {LEAKED_ALLOWED:.0%} is the limit)",
            found=shown,
            fix="take these rows out of one of the files, or leave data.eval_path out: nexa then "
            "splits the training file itself, near-copies and groups together",
        )
    if first:
        return f"{len(first)} of {len(held_out)} held-out rows: training rows like them go out"
    return f"none of {len(held_out)} held-out rows is in {len(train):,} training rows"


def dataset(flight: Flight) -> str:
    """Prepare the dataset and the suite; the training takes these very ones from the store.

    Raises:
        DataError: what `nexa data prepare` refuses.
    """
    config, root, base, store = flight.config, flight.root, flight.base, flight.tiers.store
    sealed = sealed_data.find(config.data.train_path, flight.tiers)
    if sealed is not None:
        return _sealed(flight, sealed)
    spec = plan.training_rows(config, root, base)
    suite = None
    if config.data.eval_path is not None:
        held_out, _ = run_step("prepare", plan.held_out(config, root, base), {}, store=store)
        suite, _ = run_step("freeze", plan.freeze(config, root), {"dataset": held_out}, store=store)
    made, _ = run_step("prepare", spec, {"suite": suite}, store=store)
    if suite is None:
        suite, _ = run_step("freeze", plan.freeze(config, root), {"dataset": made}, store=store)
    flight.records |= {"dataset": made, "suite": suite}
    body = made.body
    kept = body.splits["train"].rows
    flight.facts |= {"train_rows": kept, "dropped": dict(body.dropped)}
    out = ", ".join(f"{reason} {count:,}" for reason, count in Counter(body.dropped).items())
    return f"{kept:,} rows to train on of {body.rows_read:,}" + (
        f"; left out: {out}" if out else ""
    )


def _sealed(flight: Flight, dataset: Artifact[DatasetBody]) -> str:
    """A dataset of the project, as the training takes it, and what its model is asked."""
    config, root, base, store = flight.config, flight.root, flight.base, flight.tiers.store
    sealed_data.require_template(dataset, base)
    if config.data.eval_path is not None:
        held_out, _ = run_step("prepare", plan.held_out(config, root, base), {}, store=store)
        suite, _ = run_step("freeze", plan.freeze(config, root), {"dataset": held_out}, store=store)
    else:
        suite = sealed_data.require_suite(dataset, suite_of(dataset, store))
    flight.records |= {"dataset": dataset, "suite": suite}
    kept = dataset.body.splits["train"].rows
    flight.facts |= {"train_rows": kept, "dropped": dict(dataset.body.dropped)}
    return f"{kept:,} rows to train on in {dataset.label}, as it was sealed"
