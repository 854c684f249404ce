"""A task that a user describes: in YAML, or as an object in a Python file.

    kind: numeric
    about: melting points
    unit: K
    tolerance: {relative: 0.01}
    answer: {take: last_number}

What a description says is frozen into the suite, so that its answers can be scored later without
the file. Python is run only from a file that was named with the object in it (`path.py:TASK`),
and again from the suite that it was frozen into.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from nexa.core.config_base import Section
from nexa.core.errors import EvalError, UsageError, nearest
from nexa.core.identity import canonical_json, sha256_bytes
from nexa.eval.tasks.kinds import KINDS
from nexa.eval.tasks.task import Task

YAML_ENDS = (".yaml", ".yml")
_PYTHON = re.compile(r"(?P<path>.+\.py)(?::(?P<attribute>\w+))?")
_PYTHON_KIND = "python"


@dataclass(frozen=True)
class Definition:
    """What a user's file says: plain JSON, the file's digest, and the task's name."""

    name: str
    content: Mapping[str, Any]
    file_sha256: str

    @property
    def sha256(self) -> str:
        """Of what is said, and of the bytes it was said in."""
        told = {"name": self.name, "content": dict(self.content), "file": self.file_sha256}
        return sha256_bytes(canonical_json(told))


def named_task(reference: str, root: Path) -> str | Definition:
    """The task that a user names: a name as it stands, or what a file says.

    Raises:
        UsageError: no such file, or a Python file without the name of an object.
        EvalError: mistakes in the file, with their lines.
    """
    python = _PYTHON.fullmatch(reference)
    if python is None and not reference.endswith(YAML_ENDS):
        return reference
    path = root / (python["path"] if python else reference)
    if python and python["attribute"] is None:
        raise UsageError(
            "a task in Python is named with its object", found=reference, fix=f"{reference}:TASK"
        )
    try:
        data = path.read_bytes()
        text = data.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the task {reference}", found=str(error)) from error
    if python:
        content = {"kind": _PYTHON_KIND, "attribute": python["attribute"], "source": text}
        task = built("", content)
        return Definition(task.name, content, sha256_bytes(data))
    content = read_definition(text, path.name)
    return Definition(content.pop("name", path.stem), content, sha256_bytes(data))


def built(name: str, content: Mapping[str, Any]) -> Task:
    """The task of a definition's content.

    Raises:
        EvalError: it makes none.
    """
    if content["kind"] == _PYTHON_KIND:
        return _from_python(content["source"], content["attribute"])
    kind = KINDS[content["kind"]]
    return kind.build(name, kind.model.model_validate(content))


def read_definition(text: str, name: str = "task.yaml") -> dict[str, Any]:
    """What a task's YAML says, with its defaults: plain JSON.

    Raises:
        EvalError: not YAML, no kind, or keys and values that are not the kind's: all, with lines.
    """
    from pydantic import ValidationError
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        tree = YAML(typ="rt").load(text)
        plain = YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise EvalError(f"{name} is not YAML", found=f"line {line}: {error.problem}") from error
    except YAMLError as error:
        raise EvalError(f"{name} is not YAML", found=str(error)) from error
    if not isinstance(plain, Mapping) or plain.get("kind") not in KINDS:
        given = plain.get("kind") if isinstance(plain, Mapping) else None
        near = nearest(str(given), KINDS)
        raise EvalError(
            f"{name} does not say which kind of task it is",
            found=f"kind: {given}; known: {', '.join(KINDS)}",
            fix=f"kind: {near or 'text'}",
        )
    model = KINDS[plain["kind"]].model
    try:
        # Through the model and back: equal descriptions are equal, whatever they leave out.
        made = model.model_validate(_text_keys(plain)).model_dump(
            mode="json", by_alias=True, exclude_none=True
        )
    except ValidationError as error:
        mistakes = sorted(_mistake(tree, model, item) for item in error.errors(include_url=False))
        count = "a mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        told = (f"line {line}: {what}" for line, what in dict.fromkeys(mistakes))
        raise EvalError(f"{name} has {count}", found="\n".join(told)) from error
    built(name, made)
    return made


# -- mistakes ------------------------------------------------------------------------------------


def _mistake(tree: Any, model: type[Section], item: Any) -> tuple[int, str]:
    """Its line, and what is wrong there."""
    from ruamel.yaml.comments import CommentedMap

    line, node, keys = 1, tree, []
    for part in item["loc"]:
        found = [key for key in node if str(key) == part] if isinstance(node, CommentedMap) else []
        if not found:
            break
        line = int(node.lc.key(found[0])[0]) + 1
        node = node[found[0]]
        keys.append(str(part))
    if item["type"] == "extra_forbidden":
        known = _fields(model, keys[:-1])
        near = nearest(keys[-1], known)
        meant = f"did you mean {near!r}?" if near else f"known: {', '.join(known)}"
        return line, f"{'.'.join(keys)} is not a key: {meant}"
    message = item["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if item["type"] == "missing":
        return line, f"{'.'.join(map(str, item['loc']))} is missing"
    return line, f"{'.'.join(keys)}: {message} (got {item['input']!r})"


def _text_keys(value: Any) -> Any:
    """The same with every key as text: a key such as `1` or `null` is refused like any other."""
    if isinstance(value, Mapping):
        return {str(key): _text_keys(item) for key, item in value.items()}
    return [_text_keys(item) for item in value] if isinstance(value, list) else value


def _fields(model: type[Section], keys: list[str]) -> list[str]:
    """Keys that a section has; `keys` lead to it."""
    for key in keys:
        inner = model.model_fields[key].annotation
        model = inner if isinstance(inner, type) and issubclass(inner, Section) else model
    return [field.alias or name for name, field in model.model_fields.items()]


# -- Python --------------------------------------------------------------------------------------


def _from_python(source: str, attribute: str) -> Task:
    """The object of a file's code, which is run."""
    name = f"nexa_task_{sha256_bytes(source.encode())[:16]}"
    module = ModuleType(name)
    sys.modules[name] = module  # dataclasses look their module up
    try:
        exec(compile(source, f"{name}.py", "exec"), module.__dict__)
    except (SyntaxError, ImportError, NameError, AttributeError, TypeError, ValueError) as error:
        raise EvalError(
            "a task's Python file cannot be run", found=f"{type(error).__name__}: {error}"
        ) from error
    found = getattr(module, attribute, None)
    if not isinstance(found, Task):
        raise EvalError(
            f"a task's Python file has no task named {attribute}",
            found=type(found).__name__,
            fix="from nexa.eval.tasks.task import Task; TASK = Task(...)",
        )
    return found
