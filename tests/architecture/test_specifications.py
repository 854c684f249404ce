"""What docs/ARCHITECTURE_v1.md says about the specifications is true: every target exists."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import click
import pytest

from nexa.cli.main import app
from nexa.core.config import SECTIONS
from nexa.core.manifest import Cost, RunManifest
from nexa.core.records import KINDS
from tests.architecture.files import ROOT, SOURCE

DOCUMENT = ROOT / "docs" / "ARCHITECTURE_v1.md"
HEADER = "| spec | named there | where here | how it is proved |"
LATER = {
    "The fused engine",
    "Weights",
    "The data engine",
    "Evaluate and improve",
    # In no issue yet.
    "infra",
    "ui",
    "train",
    "weights",
}
# NexaCompute's specification, section 10.
MANIFEST_FIELDS = {
    *("run_id", "run_type", "dataset_id", "dataset_hash", "teacher_model", "student_model"),
    *("gpu_type", "provider", "tailscale_ip", "hostname", "wandb_run_id", "tokens_trained"),
    *("cost_estimate_usd_total", "checkpoint_dir_durable", "best_checkpoint", "eval_status"),
    *("eval_report", "eval_summary"),
}


@dataclass(frozen=True)
class Row:
    """One thing that a specification names."""

    line: int
    spec: str
    named: str
    where: str
    proof: str

    def targets(self) -> Iterator[tuple[str, str]]:
        """(kind, value) of every target of both columns; a remark in brackets is none."""
        for cell in (self.where, self.proof):
            for part in cell.split("; "):
                yield _kind(re.sub(r"` \(.*\)$", "`", part))

    def __str__(self) -> str:
        return f"line {self.line}: {self.spec}, {self.named}"


def _kind(part: str) -> tuple[str, str]:
    for kind in ("owner", "later"):
        if part.startswith(f"{kind}: "):
            return kind, part.removeprefix(f"{kind}: ")
    if part.startswith("decision "):
        return "decision", part.removeprefix("decision ")
    if part == "—":
        return "nothing", ""
    if not (part.startswith("`") and part.endswith("`")):
        return "unknown", part
    code = part.strip("`")
    for kind in ("manifest", "cost", "config.yaml"):
        if code.startswith(f"{kind}: "):
            return kind, code.removeprefix(f"{kind}: ")
    for kind in ("nexa", "make"):
        if code.startswith(f"{kind} "):
            return kind, code.removeprefix(f"{kind} ")
    return ("code" if code.startswith("nexa.") else "path"), code


@cache
def rows() -> tuple[Row, ...]:
    """Every row of the tables that have the four columns."""
    found, inside = [], False
    for number, line in enumerate(DOCUMENT.read_text(encoding="utf-8").splitlines(), 1):
        inside = line == HEADER or (inside and line.startswith("|"))
        if inside and line != HEADER and not line.startswith("|---"):
            found.append(Row(number, *(cell.strip() for cell in line.strip("|").split(" | "))))
    return tuple(found)


def wrong(kind: str, is_there: Callable[[str], bool]) -> list[str]:
    """The rows that have a target of this kind which is not there."""
    return [
        f"{row}: {value}"
        for row in rows()
        for found, value in row.targets()
        if found == kind and not is_there(value)
    ]


# -- what exists ---------------------------------------------------------------------------------


@cache
def definitions(path: Path) -> frozenset[str]:
    """The names that a Python file defines: functions, classes, methods, fields, constants."""
    names: set[str] = set()

    def collect(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                names.add(prefix + node.name)
            if isinstance(node, ast.ClassDef):
                collect(node.body, f"{prefix}{node.name}.")
            if isinstance(node, ast.Assign):
                names.update(prefix + t.id for t in node.targets if isinstance(t, ast.Name))
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                names.add(prefix + node.target.id)

    collect(ast.parse(path.read_text(encoding="utf-8")).body, "")
    return frozenset(names)


def is_path(target: str) -> bool:
    name, _, test = target.partition("::")
    path = ROOT / name
    return path.exists() and (not test or test in definitions(path))


def is_code(target: str) -> bool:
    module, _, name = target.partition(":")
    place = ROOT / "src" / Path(*module.split("."))
    path = place.with_suffix(".py") if place.with_suffix(".py").is_file() else place / "__init__.py"
    return path.is_file() and (not name or name in definitions(path))


def is_command(target: str) -> bool:
    words = target.split()
    flags = {word for word in words if word.startswith("--")}
    context = click.Context(app, info_name="nexa", **app.context_settings)
    command: click.Command | None = app
    for word in (word for word in words if word not in flags):
        command = command.get_command(context, word) if isinstance(command, click.Group) else None
    if command is None:
        return False
    own = {option for p in command.params for option in (*p.opts, *p.secondary_opts)}
    return flags <= own


def is_make_target(target: str) -> bool:
    return re.search(rf"^{re.escape(target)}:", (ROOT / "Makefile").read_text(), re.M) is not None


def is_config_key(target: str) -> bool:
    section, _, key = target.partition(".")
    return section in SECTIONS and key in SECTIONS[section].model_fields


def is_decision(number: str) -> bool:
    return len(list((ROOT / "docs" / "decisions").glob(f"{number}-*.md"))) == 1


def is_dependency(owner: str) -> bool:
    name = owner.replace("_", "-")
    declared = re.findall(r'^    "([a-z0-9-]+)', (ROOT / "pyproject.toml").read_text(), re.M)
    return name in declared


# -- the tables ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "is_there"),
    [
        ("path", is_path),
        ("code", is_code),
        ("nexa", is_command),
        ("make", is_make_target),
        ("config.yaml", is_config_key),
        ("manifest", RunManifest.model_fields.__contains__),
        ("cost", Cost.model_fields.__contains__),
        ("decision", is_decision),
        ("later", LATER.__contains__),
        ("unknown", lambda _: False),
    ],
)
def test_every_target_exists(kind: str, is_there: Callable[[str], bool]) -> None:
    assert wrong(kind, is_there) == []


def test_owners_are_dependencies() -> None:
    assert wrong("owner", is_dependency) == []


def test_the_tables_are_there_and_every_row_is_whole() -> None:
    assert len(rows()) > 300
    for row in rows():
        assert re.fullmatch(r"[EAC] \S.*", row.spec), str(row)
        assert all((row.named, row.where, row.proof)), str(row)


def test_nothing_is_named_twice() -> None:
    named = [(row.spec, row.named) for row in rows()]
    assert sorted(named) == sorted(set(named))


def test_what_is_here_is_proved_and_what_is_not_comes_from_somewhere() -> None:
    for row in rows():
        kinds = [kind for kind, _ in row.targets()]
        built = {"path", "code", "nexa", "config.yaml", "manifest", "cost"} & set(kinds[:-1])
        elsewhere = {"owner", "later", "decision"} & set(kinds)
        assert "nothing" not in kinds or elsewhere, f"{row} has no proof"
        assert built or elsewhere, f"{row} is nowhere"


def test_every_field_of_the_specified_manifest_is_a_field_and_has_its_row() -> None:
    assert set(RunManifest.model_fields) >= MANIFEST_FIELDS
    told = {value for row in rows() for kind, value in row.targets() if kind == "manifest"}
    assert told >= MANIFEST_FIELDS


def test_every_kind_of_artifact_is_introduced() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    for kind in KINDS:
        assert f"| {kind.capitalize()} |" in text


# -- the rest of the documents -------------------------------------------------------------------


def test_links_between_documents_lead_somewhere() -> None:
    broken = []
    for path in [*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")]:
        for link in re.findall(r"\]\(([^)#:\s]+)\)", path.read_text(encoding="utf-8")):
            if not (path.parent / link).exists():
                broken.append(f"{path.relative_to(ROOT)}: {link}")
    assert broken == []


def test_files_that_the_text_names_exist() -> None:
    text = DOCUMENT.read_text(encoding="utf-8").partition("## What the specifications name")[0]
    named = {n for n in re.findall(r"`([a-z]+(?:/\w+)+\.py)`", text) if not n.startswith("tests")}
    assert "orchestrate/run.py" in named
    assert [name for name in named if not (SOURCE / name).exists()] == []


@pytest.mark.parametrize(
    "path", sorted((ROOT / "docs" / "decisions").glob("*.md")), ids=lambda path: path.stem
)
def test_a_decision_says_context_decision_and_consequence_on_a_page(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith(f"# {path.name[:3]}: ")
    assert len(text.splitlines()) < 40
    for part in ("**Context.**", "**Decision.**", "**Consequence.**"):
        assert part in text
    named = re.findall(r"`((?:src|tests|docs|examples)/[\w./-]+)`", text)
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_decisions_are_numbered_without_a_gap() -> None:
    numbers = sorted(int(path.name[:3]) for path in (ROOT / "docs" / "decisions").glob("*.md"))
    assert numbers == list(range(1, len(numbers) + 1))
