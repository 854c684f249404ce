"""config.yaml as typed, frozen sections; every mistake is told at once, with its line.

Keys are Entrenar's. A key that is not here is refused with the nearest name: a typo in
`learning_rate` must never train with the default.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import ValidationError, ValidationInfo, field_validator
from pydantic.fields import FieldInfo
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from nexa.core.config_base import Section
from nexa.core.config_feedback import FeedbackSection
from nexa.core.config_names import OTHER_NAMES, OTHER_VALUES
from nexa.core.config_sections import (
    DataSection,
    EvalSection,
    InfraSection,
    LoraSection,
    ModelSection,
    OptimizerSection,
    PublishSection,
    QuantizeSection,
    SchedulerSection,
    TrainingSection,
)
from nexa.core.errors import ConfigError, nearest

SECTIONS: dict[str, type[Section]] = {
    "model": ModelSection,
    "data": DataSection,
    "optimizer": OptimizerSection,
    "scheduler": SchedulerSection,
    "lora": LoraSection,
    "quantize": QuantizeSection,
    "training": TrainingSection,
    "eval": EvalSection,
    "feedback": FeedbackSection,
    "publish": PublishSection,
    "infra": InfraSection,
}


class Config(Section):
    """The whole of config.yaml."""

    model: ModelSection
    data: DataSection
    optimizer: OptimizerSection = OptimizerSection()
    scheduler: SchedulerSection = SchedulerSection()
    lora: LoraSection | None = None
    quantize: QuantizeSection | None = None
    training: TrainingSection = TrainingSection()
    eval: EvalSection = EvalSection()
    feedback: FeedbackSection = FeedbackSection()
    publish: PublishSection | None = None
    infra: InfraSection = InfraSection()

    @property
    def method(self) -> Literal["lora", "full"]:
        """What is trained: an adapter (lora; qlora and dora are ways of it) or all weights."""
        if self.training.method is not None:
            return "full" if self.training.method == "full" else "lora"
        return "lora" if self.lora or self.quantize else "full"

    @property
    def dora(self) -> bool:
        """Whether the adapter learns each row's magnitude apart."""
        return self.training.method == "dora" or (self.lora is not None and self.lora.dora)

    @property
    def quantization(self) -> QuantizeSection | None:
        """How the base is held in memory; None: as it is."""
        if self.training.method == "qlora":
            return self.quantize or QuantizeSection()
        return self.quantize

    @property
    def method_name(self) -> str:
        """The method as people call it: full, lora, qlora, dora, or qlora with dora."""
        if self.quantization is not None:
            return "qlora with dora" if self.dora else "qlora"
        return "dora" if self.dora else self.method

    @field_validator("training")
    @classmethod
    def _method_fits(cls, training: TrainingSection, info: ValidationInfo) -> TrainingSection:
        method, lora = training.method, info.data.get("lora")
        if method == "full" and lora is not None:
            raise ValueError("the method is full, but there is a lora section")
        said = lora.dora if lora is not None and "dora" in lora.model_fields_set else None
        if method == "dora" and said is False:
            raise ValueError("the method is dora, but lora.dora is false")
        if method not in (None, "qlora") and info.data.get("quantize") is not None:
            way = "method: qlora with lora.dora: true" if method == "dora" else "method: qlora"
            raise ValueError(
                f"the method is {method}, but there is a quantize section; an adapter on a "
                f"quantised base is {way}"
            )
        return training


def load_config(path: Path) -> Config:
    """Read and check a config.yaml.

    Raises:
        ConfigError: it cannot be read, is not YAML, or has mistakes: all of them, with lines.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError(
            f"there is no {path}",
            fix="nexa init --base MODEL --data FILE   writes one",
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}", found=str(error)) from error
    return parse_config(text, name=path.name)


def parse_config(text: str, *, name: str = "config.yaml") -> Config:
    """The typed form of a configuration's text; `name` is what its mistakes are told under."""
    try:
        # The round-trip loader alone keeps line numbers; the safe one gives plain values.
        tree = YAML(typ="rt").load(text)
        plain = YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{name} is not YAML", found=f"line {line}: {error.problem}") from error
    except YAMLError as error:
        raise ConfigError(f"{name} is not YAML", found=str(error)) from error
    if not isinstance(tree, Mapping):
        raise ConfigError(
            f"{name} holds no sections",
            found="an empty file" if tree is None else f"it begins with {text.split()[0]!r}",
            fix="nexa init --base MODEL --data FILE   writes one",
        )
    try:
        return Config.model_validate(_asked(plain, Config))
    except ValidationError as error:
        mistakes = _mistakes(tree, error)
        count = "a mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        raise ConfigError(
            f"{name} has {count}",
            found="\n".join(mistakes),
        ) from error


def _asked(tree: Mapping[Any, Any], section: type[Section]) -> dict[str, Any]:
    """What a file asks for, with every key as text.

    `lora:` with nothing below it asks for the section, with its defaults. A key such as `1` or
    `null` is refused like any unknown one.
    """
    asked = {}
    for key, value in tree.items():
        inner = _section_of(section.model_fields.get(str(key)))
        if inner is not None and (value is None or isinstance(value, Mapping)):
            value = _asked(value or {}, inner)
        asked[str(key)] = value
    return asked


def _section_of(field: FieldInfo | None) -> type[Section] | None:
    """The section that a field holds, if it holds one."""
    annotation = field.annotation if field is not None else None
    for kind in (annotation, *get_args(annotation)):
        if isinstance(kind, type) and issubclass(kind, Section):
            return kind
    return None


def _mistakes(tree: Mapping[Any, Any], error: ValidationError) -> list[str]:
    """Every mistake with its line, in the file's order; a union's branches are one."""
    told: dict[tuple[int, str, str], dict[str, None]] = {}
    for item in error.errors(include_url=False):
        keys, value = _place(tree, item["loc"])
        named = _named(tree, keys)
        if item["type"] == "missing":
            named += [str(part) for part in item["loc"][len(keys) :]]
        dotted = ".".join(named)
        shown = "" if value is None or isinstance(value, Mapping) else f" (got {value!r})"
        if item["type"] == "missing":
            subject, reason, shown = f"{dotted} is missing", "", ""
        elif item["type"] == "extra_forbidden":
            subject, reason, shown = f"{dotted} is not a key", _nearest_key(keys), ""
        else:
            subject, reason = dotted, _reason(item["type"], item["msg"])
            shown += _nearest_value(item["type"], value)
        told.setdefault((_line(tree, keys), subject, shown), {})[reason] = None
    return [
        f"line {line}: {subject}" + f": {' or '.join(reasons)}" * any(reasons) + shown
        for (line, subject, shown), reasons in sorted(told.items())
    ]


def _reason(kind: str, message: str) -> str:
    """Pydantic's sentence without its own words."""
    if kind == "model_type":
        return "should be a section, with keys below it"
    return message.removeprefix("Value error, ").removeprefix("Input ").partition(", unable")[0]


def _nearest_value(kind: str, value: Any) -> str:
    """What another tool's word for a choice is here."""
    meant = OTHER_VALUES.get(value) if isinstance(value, str) else None
    return f": did you mean {meant!r}?" if meant and kind == "literal_error" else ""


def _place(tree: Mapping[Any, Any], loc: tuple[str | int, ...]) -> tuple[list[Any], Any]:
    """The keys of pydantic's location that the file has (unions append more), and the value."""
    keys: list[Any] = []
    node: Any = tree
    for index, part in enumerate(loc):
        # Of a list of plain values the whole is told.
        known = _keys(node) if isinstance(node, Mapping) or loc[index + 1 :] else ()
        found = [key for key in known if key == part or str(key) == part]
        if not found:
            break
        keys += found[:1]
        node = node[found[0]]
    return keys, node


def _keys(node: Any) -> Iterable[Any]:
    """The keys of a section, the places of a list."""
    if isinstance(node, Mapping):
        return node
    return range(len(node)) if isinstance(node, list) else ()


def _named(tree: Mapping[Any, Any], keys: list[Any]) -> list[str]:
    """The keys among `keys`, as they are told: places of a list have no name."""
    named, node = [], tree
    for key in keys:
        named += [] if isinstance(node, list) else [str(key)]
        node = node[key]
    return named


def _line(tree: Mapping[Any, Any], keys: list[Any]) -> int:
    """The 1-based line of the key at `keys`."""
    line = 1
    node: Any = tree
    for key in keys:
        # A key that came in by `<<` has no line of its own here: its section's is told.
        if key in (node.lc.data or ()):
            line = int(node.lc.key(key)[0]) + 1
        node = node[key]
    return line


def _nearest_key(keys: list[Any]) -> str:
    """What may have been meant by an unknown key."""
    if keys == ["data", "train"]:
        return "it is another name of train_path, which is there too"
    section: type[Section] = Config
    for name in keys[:-1]:
        section = _section_of(section.model_fields[name]) or section
    fields, key = section.model_fields, str(keys[-1])
    if key in OTHER_NAMES:
        return f"did you mean {OTHER_NAMES[key]}?"
    if elsewhere := _elsewhere(key):
        return f"did you mean {elsewhere}?"
    if near := nearest(key, fields):
        return f"did you mean {near!r}?"
    if other := nearest(key, OTHER_NAMES):
        return f"did you mean {OTHER_NAMES[other]}?"
    return "known: " + ", ".join(fields)


def _elsewhere(key: str) -> str | None:
    """The key of this name in another section."""
    for name, section in SECTIONS.items():
        if key in section.model_fields:
            return f"{name}.{key}"
        for inner, field in section.model_fields.items():
            below = _section_of(field)
            if below is not None and key in below.model_fields:
                return f"{name}.{inner}.{key}"
    return None
