"""The types of datasets, each with its JSON Schema (2020-12): what `nexa data validate` checks.

`sft` and `chat` are made of the shapes that can be trained on, the others are their own. What a
JSON Schema cannot say (that a conversation ends with an answer) a variant's `check` does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nexa.data.schemas import BUILT_IN, SCHEMAS, RowProblem, Shape, shape_of
from nexa.data.schemas.fields import LABEL_SCHEMAS, LABELS, MESSAGES_SCHEMA, TEXT_SCHEMA

DRAFT = "https://json-schema.org/draft/2020-12/schema"
ANSWER_KEYS = ("hypothesis", "methodology", "risks")

_NAMES = {name: LABEL_SCHEMAS[name] for name in ("group", "id")}
_SAID = {"anyOf": [TEXT_SCHEMA, MESSAGES_SCHEMA]}
_SPEAKER = {
    "type": "object",
    "anyOf": [{"required": ["from", "value"]}, {"required": ["role", "content"]}],
}


@dataclass(frozen=True)
class Variant:
    """One way to write a row: the keys that it is known by, its schema, and what else is asked."""

    name: str
    key_sets: tuple[tuple[str, ...], ...]
    json_schema: Mapping[str, Any]
    check: Callable[[Mapping[str, Any]], object] = dict

    @property
    def known(self) -> frozenset[str]:
        """The keys that it has a use for."""
        return frozenset(self.json_schema["properties"]) | frozenset(LABELS)

    def held(self, keys: Iterable[str]) -> tuple[bool, int]:
        """Whether a row has all keys of one set, and the most that it has of any."""
        there = set(keys)
        have = [len(there.intersection(wanted)) for wanted in self.key_sets]
        return any(map(there.issuperset, self.key_sets)), max(have)


@dataclass(frozen=True)
class DatasetType:
    """A type of dataset; its rows are written in one of the variants, the first that fits."""

    name: str
    meaning: str
    variants: tuple[Variant, ...]

    @property
    def json_schema(self) -> dict[str, Any]:
        """The whole type as one schema."""
        head = {"$schema": DRAFT, "title": self.name, "description": self.meaning}
        if len(self.variants) == 1:
            return {**head, **self.variants[0].json_schema}
        return {
            **head,
            "type": "object",
            "anyOf": [{"$ref": f"#/$defs/{variant.name}"} for variant in self.variants],
            "$defs": {variant.name: dict(variant.json_schema) for variant in self.variants},
        }

    def variant_of(self, row: Mapping[str, Any]) -> Variant:
        """The variant whose keys a row has, or most of them."""
        return max(self.variants, key=lambda variant: variant.held(row))  # the first of equals


def of_shape(shape: Shape) -> Variant:
    """A shape that can be trained on, as a variant."""
    return Variant(shape.name, shape.key_sets, shape.json_schema, shape.convert)


def dataset_types() -> dict[str, DatasetType]:
    """Every type by its name; shapes that packages add belong to `sft`."""
    shapes = {shape.name: shape for shape in BUILT_IN}
    added = [SCHEMAS[name] for name in SCHEMAS.names() if name not in shapes]
    chat = [of_shape(shapes[name]) for name in ("messages", "sharegpt")]
    sft = [of_shape(shape) for shape in (*BUILT_IN, *added)]
    types = (
        DatasetType("sft", "rows with an answer, in any shape that is trained on", tuple(sft)),
        DatasetType("chat", "conversations that end with an answer", tuple(chat)),
        PREFERENCE,
        DISTILL,
        HYPOTHESIS,
        EVAL,
    )
    return {type_.name: type_ for type_ in types}


def type_of(row: Mapping[str, Any]) -> tuple[str, tuple[str, ...]] | None:
    """The type that a row's keys say, and which keys; None where they say none.

    What tells a type from all others goes first: a row of preferences may hold a conversation, too.
    """
    for name, keys in _MARKS:
        if all(key in row for key in keys):
            return name, keys
    answer = row.get("target_answer")
    if isinstance(answer, dict) and any(key in answer for key in ANSWER_KEYS) and "prompt" in row:
        return "hypothesis", ("prompt", "target_answer")
    shape = shape_of(row)
    if shape is None:
        return ("eval", ("prompt", "target")) if {"prompt", "target"} <= row.keys() else None
    name = "chat" if shape in ("messages", "sharegpt") else "sft"
    return name, SCHEMAS[shape].fits(row) or ()


def _two_answers(row: Mapping[str, Any]) -> None:
    """What a pair must be beyond its keys.

    Raises:
        RowProblem: both answers are the same, or one is none.
    """
    if row["chosen"] == row["rejected"]:
        raise RowProblem("'chosen' and 'rejected' are the same: there is no preference", "rejected")
    for key in ("chosen", "rejected"):
        turns = row[key]
        if isinstance(turns, list) and turns[-1]["role"] != "assistant":
            raise RowProblem(
                f"the last turn of {key!r} is {turns[-1]['role']!r}: it is no answer",
                f"{key}[{len(turns) - 1}]",
            )


def _object(
    required: Sequence[str], properties: Mapping[str, Any], **more: Any
) -> Mapping[str, Any]:
    return {"type": "object", "required": list(required), "properties": {**properties}, **more}


_MARKS = (
    ("preference", ("chosen", "rejected")),
    ("distill", ("prompt", "completion", "teacher")),
)
PREFERENCE = DatasetType(
    "preference",
    "two answers to a prompt, of which the chosen one is better",
    (
        Variant(
            "prompt",
            (("prompt", "chosen", "rejected"),),
            _object(
                ("prompt", "chosen", "rejected"),
                {"prompt": _SAID, "chosen": _SAID, "rejected": _SAID, **LABEL_SCHEMAS},
            ),
            _two_answers,
        ),
        Variant(
            "conversations",
            (("conversations", "chosen", "rejected"),),
            _object(
                ("conversations", "chosen", "rejected"),
                {
                    "conversations": {"type": "array", "minItems": 1, "items": _SPEAKER},
                    "chosen": _SPEAKER,
                    "rejected": _SPEAKER,
                    "system": {"type": ["string", "null"]},
                    **LABEL_SCHEMAS,
                },
            ),
            _two_answers,
        ),
        Variant(
            "whole",
            (("chosen", "rejected"),),
            _object(
                ("chosen", "rejected"),
                {"chosen": MESSAGES_SCHEMA, "rejected": MESSAGES_SCHEMA, **LABEL_SCHEMAS},
            ),
            _two_answers,
        ),
    ),
)
DISTILL = DatasetType(
    "distill",
    "a teacher's answer to a prompt, with the teacher's name",
    (
        Variant(
            "distill",
            (("prompt", "completion", "teacher"),),
            _object(
                ("prompt", "completion", "teacher"),
                {
                    "prompt": _SAID,
                    "completion": TEXT_SCHEMA,
                    "teacher": TEXT_SCHEMA,
                    "logprobs": {
                        "type": ["array", "null"],
                        "items": _object(
                            ("token", "logprob"),
                            {"token": {"type": "string"}, "logprob": {"type": "number"}},
                        ),
                    },
                    "parents": {"type": "array", "items": {"type": "string"}},
                    **LABEL_SCHEMAS,
                },
            ),
            next(shape for shape in BUILT_IN if shape.name == "completion").convert,
        ),
    ),
)
HYPOTHESIS = DatasetType(
    "hypothesis",
    "a proposal of the lab: a hypothesis with its methodology and its risks",
    (
        Variant(
            "hypothesis",
            (("context", "prompt", "target_answer", "domain", "source", "quality_score"),),
            _object(
                ("context", "prompt", "target_answer", "domain", "source", "quality_score"),
                {
                    "context": {"type": "string"},
                    "prompt": TEXT_SCHEMA,
                    "target_answer": _object(
                        ANSWER_KEYS,
                        dict.fromkeys(ANSWER_KEYS, TEXT_SCHEMA),
                        additionalProperties=False,
                    ),
                    "domain": TEXT_SCHEMA,
                    "source": {"enum": ["human", "synthetic"]},
                    "quality_score": {"type": "number"},
                    **_NAMES,
                },
                additionalProperties=False,
            ),
        ),
    ),
)
EVAL = DatasetType(
    "eval",
    "a prompt and the answer that is wanted, for scoring",
    (
        Variant(
            "eval",
            (("prompt", "target", "id"),),
            _object(
                ("prompt", "target", "id"),
                {
                    "prompt": _SAID,
                    "target": {"type": ["string", "object", "array", "number", "boolean"]},
                    **LABEL_SCHEMAS,
                    "id": {"type": ["string", "integer"]},
                },
            ),
        ),
    ),
)
