"""`nexa init`: look at a model and at data, choose what can be justified, write config.yaml.

Nothing is trained and nothing is guessed in silence: every value stands in the file with the
reason for it, and the file trains as it stands.
"""

from __future__ import annotations

import difflib
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import ValidationError

from nexa.core.config_sections import PublishSection
from nexa.core.errors import UsageError
from nexa.core.identity import slug
from nexa.core.store import storage_error, write_atomic
from nexa.lm.resolve import Source, resolve
from nexa.orchestrate.data_files import (
    EVAL_FRACTION,
    DataFiles,
    Place,
    data_files,
    place_of,
)
from nexa.orchestrate.model_shape import Shape, shape_of
from nexa.orchestrate.recipes import (
    FULL_REASON,
    FULL_SHARE,
    ROWS_A_STEP,
    Length,
    Recipe,
    length_for,
    recipe_for,
)
from nexa.orchestrate.start.config_text import Line, config_text

Method = Literal["lora", "qlora", "dora", "full"]
State = Literal["created", "replaced", "unchanged"]

METHODS: tuple[Method, ...] = get_args(Method)
CONFIG = "config.yaml"
OUTPUT_DIR = "./output"
EVAL_ROWS = 64
LEAST_NEW_TOKENS = 160
MOST_NEW_TOKENS = 1024
MOST_EVAL_FRACTION = 0.9  # as config.yaml has it
ANY_OWNER = "you"
IGNORED = (".nexa/", "output/", ".env")
# What each method is, and what it takes beside plain LoRA.
MEANINGS: dict[Method, str] = {
    "lora": "a low-rank adapter beside each linear layer; the model itself is left as it is",
    "qlora": "LoRA beside linear layers held in four bits: a quarter of their memory",
    "dora": "LoRA that learns each row's length apart from its direction; a little more work",
    "full": "every weight is trained: six to nine times the memory of the weights",
}


@dataclass(frozen=True)
class Proposal:
    """A config.yaml that could be written, and what is there already; nothing is written yet.

    `values` is its content as data, `before` the text of the file that is there.
    """

    folder: Path
    text: str
    before: str | None
    shape: Shape
    data: DataFiles
    steps: int
    values: dict[str, dict[str, Any]]

    @property
    def path(self) -> Path:
        """Where it goes."""
        return self.folder / CONFIG

    @property
    def differs(self) -> bool:
        """Whether another config.yaml is there."""
        return self.before not in (None, self.text)

    def difference(self) -> list[str]:
        """The lines that would change: as they are with `-`, as they would be with `+`."""
        old, new = (self.before or "").splitlines(), self.text.splitlines()
        lines = difflib.unified_diff(old, new, "as it is", "as it would be", n=0, lineterm="")
        return list(lines)


@dataclass(frozen=True)
class Started:
    """What `nexa init` found, chose and wrote. `values` is config.yaml as data."""

    state: State
    config_path: str
    shape: Shape
    data: DataFiles
    steps: int
    values: dict[str, dict[str, Any]]

    def to_json(self) -> dict[str, Any]:
        """Plain data, as --json prints it."""
        return {
            "state": self.state,
            "config_path": self.config_path,
            "model": vars(self.shape),
            "data": {
                "format": self.data.format,
                "rows": self.data.rows,
                "train_rows": self.data.train_rows,
                "eval_rows": self.data.eval_rows,
                "left_out": {path.name: reason for path, reason in self.data.left_out},
            },
            "steps": self.steps,
            "config": self.values,
        }


def init(
    base: str,
    data: str | Path,
    *,
    method: Method = "lora",
    source: Source = "auto",
    name: str | None = None,
    eval_fraction: float = EVAL_FRACTION,
    folder: Path = Path(),
    force: bool = False,
) -> Started:
    """Write config.yaml and .gitignore into `folder`, for this model and this data.

    A config.yaml that would not change is left alone.

    Raises:
        UsageError: another config.yaml is there, and not `force`; or `propose` refuses the name.
        ModelError: the model cannot be found, or is not one that writes text.
        DataError: the data cannot be found or told.
        StorageError: the folder cannot be written.
    """
    require_share(eval_fraction)
    if name is not None:
        require_name(name)  # before the model, which is noted in the project
    model = resolve(base, source=source, project=folder)
    proposal = propose(
        base,
        data,
        shape_of(model),
        method=method,
        source=source,
        name=name,
        eval_fraction=eval_fraction,
        folder=folder,
    )
    return write(proposal, force=force)


def propose(
    base: str,
    data: str | Path,
    shape: Shape,
    *,
    method: Method = "lora",
    source: Source = "auto",
    name: str | None = None,
    eval_fraction: float = EVAL_FRACTION,
    folder: Path = Path(),
) -> Proposal:
    """The config.yaml for a model of this shape and this data; writes nothing.

    `data` is a path as seen from here, or a Hub dataset (org/name). With a `name` the trained
    model goes to output/NAME instead of output.

    Raises:
        UsageError: the name could not be a repository's, or the share is no share.
        DataError: the data cannot be found or told.
        StorageError: the config.yaml that is there cannot be read.
    """
    require_share(eval_fraction)
    repo_name = slug(f"{Path(base).name}-tuned") if name is None else require_name(name)
    output_dir = OUTPUT_DIR if name is None else f"{OUTPUT_DIR}/{name}"
    place = place_of(data)
    found = data_files(place.path, eval_fraction)
    recipe = recipe_for(shape.parameters)
    length = length_for(found.train_rows)
    sections = [
        ("model", _model_lines(base, source, shape, folder)),
        ("data", _data_lines(place, found, folder, eval_fraction)),
        ("optimizer", _optimizer_lines(method, recipe)),
        ("scheduler", _scheduler_lines(length)),
        *([("lora", _lora_lines(recipe))] if method != "full" else []),
        *([("quantize", _quantize_lines())] if method == "qlora" else []),
        ("training", _training_lines(method, length, output_dir)),
        ("eval", _eval_lines(found)),
    ]
    return Proposal(
        folder=folder,
        text=config_text(sections, repo_name=repo_name),
        before=_text(folder / CONFIG),
        shape=shape,
        data=found,
        steps=length.steps,
        values={title: {line.key: line.value for line in lines} for title, lines in sections},
    )


def write(proposal: Proposal, *, force: bool = False) -> Started:
    """Write what was proposed, and .gitignore; a different config.yaml only with `force`.

    Raises:
        UsageError: another config.yaml is there, and not `force`.
        StorageError: the folder cannot be written.
    """
    state = _write_config(proposal.path, proposal.text, force=force)
    _ignore(proposal.folder / ".gitignore")
    return Started(
        state,
        str(proposal.path),
        proposal.shape,
        proposal.data,
        proposal.steps,
        proposal.values,
    )


def require_name(name: str) -> str:
    """A name that can be a folder's and a repository's.

    Raises:
        UsageError: it cannot; says what can.
    """
    try:
        require_repo(f"{ANY_OWNER}/{name}")
    except UsageError as error:
        raise UsageError(
            f"{name!r} cannot be the name of a model",
            found="a name is letters, digits, single '-' and '.', or '_', at most 96",
            fix=slug(name),
        ) from error
    return name


def require_repo(repo: str) -> str:
    """`OWNER/NAME`, as a Hub takes it.

    Raises:
        UsageError: it is not.
    """
    try:
        return PublishSection(repo=repo).repo
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise UsageError(f"{repo!r} is not a repository's name: it {reason}") from error


def require_share(share: float) -> float:
    """A share of the rows that can be set aside for evaluation.

    Raises:
        UsageError: none, or so much that nothing is left to train on.
    """
    if not 0 < share < MOST_EVAL_FRACTION:
        raise UsageError(
            f"the share for evaluation should be above 0 and below {MOST_EVAL_FRACTION}",
            found=f"{share:g}",
        )
    return share


def _model_lines(base: str, source: Source, shape: Shape, folder: Path) -> list[Line]:
    path = Path(base).expanduser()
    lines = [
        Line(
            "path",
            in_config(path, folder) if path.exists() else base,
            f"{shape.architecture}: hidden_size {shape.hidden_size}, {shape.num_layers} layers, "
            f"vocab_size {shape.vocab_size:,}, {shape.parameters / 1e6:,.1f}M parameters",
        )
    ]
    if source != "auto":
        lines.append(Line("source", source, "as asked for: an alias's sources differ in weights"))
    return lines


def _data_lines(place: Place, found: DataFiles, folder: Path, eval_fraction: float) -> list[Line]:
    train = place.name_of(found.train) or in_config(found.train, folder)
    lines = [Line("train_path", train, f"{found.rows:,} rows")]
    if found.held_out:
        path = place.name_of(found.held_out) or in_config(found.held_out, folder)
        lines.append(Line("eval_path", path, f"{found.eval_rows:,} rows held out, by its name"))
    else:
        lines.append(
            Line(
                "eval_fraction",
                eval_fraction,
                f"no held-out file was found: about {found.eval_rows:,} rows are set aside",
            )
        )
    lines += [
        Line("format", found.format, "as found in the file"),
        Line("max_length", "auto", "taken from the data's own quantiles; no answer is cut"),
        Line("batch_size", ROWS_A_STEP, "rows a step: small sets need many steps"),
    ]
    return lines


def _optimizer_lines(method: Method, recipe: Recipe) -> list[Line]:
    lr, reason = recipe.lr, recipe.reason
    if method == "full":
        lr, reason = lr * FULL_SHARE, FULL_REASON
    return [
        Line("name", "adamw", "the usual choice; its state is two numbers a trained weight"),
        Line("lr", lr, reason),
        Line("weight_decay", 0.0, "a short run on few weights has nothing to decay"),
    ]


def _scheduler_lines(length: Length) -> list[Line]:
    return [
        Line("name", "linear", "down to 0, so that the last steps settle"),
        Line(
            "warmup_steps", length.warmup_steps, f"a tenth of {length.steps:,} steps, 100 at most"
        ),
    ]


def _lora_lines(recipe: Recipe) -> list[Line]:
    limit = f"under {recipe.below / 1e9:g}B" if math.isfinite(recipe.below) else "of 20B and more"
    scale = f"{recipe.alpha / recipe.rank:g}"
    return [
        Line("rank", recipe.rank, f"models {limit} parameters; larger ones are given more"),
        Line(
            "alpha", recipe.alpha, f"updates are scaled by alpha / rank = {scale}, as the lr wants"
        ),
        Line("dropout", 0.0, "off: few passes over the rows"),
        Line("target_modules", "all-linear", "every linear layer but the output head"),
    ]


def _quantize_lines() -> list[Line]:
    return [
        Line("bits", 4, "of the frozen linear layers; embeddings, norms and head stay as they are"),
        Line("scheme", "nf4", "16 levels for values that are spread as a bell, as weights are"),
        Line("double", True, "the scales are held in 8 bits too: 4.13 bits a weight, not 4.5"),
    ]


def _training_lines(method: Method, length: Length, output_dir: str) -> list[Line]:
    return [
        Line("method", method, MEANINGS[method]),
        Line("epochs", length.epochs, length.reason),
        Line("gradient_accumulation", 1, "a step's rows go through at once; memory: micro_tokens"),
        Line("micro_tokens", "auto", "tokens in memory at a time; never changes the result"),
        Line("seed", 0, "order of the rows and first values of the adapter"),
        Line("precision", "auto", "bfloat16 where the processor has it, else float32"),
        Line("output_dir", output_dir, "the trained model is left here"),
    ]


def _eval_lines(found: DataFiles) -> list[Line]:
    rows = max(1, min(EVAL_ROWS, found.eval_rows))
    return [
        Line("rows", rows, "held-out rows that base and tuned both answer"),
        Line("max_new_tokens", *_new_tokens(found.longest_answer)),
    ]


def _new_tokens(longest_bytes: int) -> tuple[int, str]:
    """How long an answer may be: twice what its bytes need in most tokenizers, in bounds."""
    needed = math.ceil(longest_bytes / 2 / 32) * 32
    tokens = min(MOST_NEW_TOKENS, max(LEAST_NEW_TOKENS, needed))
    room = "has room in it" if needed <= tokens else "may need more: its score would suffer"
    return tokens, f"the longest answer, {longest_bytes:,} bytes, {room}"


def in_config(path: Path, folder: Path) -> str:
    """A path as config.yaml has it: from its own folder, or absolute where it was given so."""
    if path.is_absolute():
        return str(path)
    relative = os.path.relpath(path, folder)
    return relative if relative.startswith(os.pardir) else f"./{relative}"


def _write_config(path: Path, text: str, *, force: bool) -> State:
    """Write the file unless it is there and the same; a different one only with `force`."""
    before = _text(path)
    if before == text:
        return "unchanged"
    if before is not None and not force:
        raise UsageError(
            f"{path} is there already and would change",
            found=_first_difference(before, text),
            fix="--force replaces it, --output FOLDER writes elsewhere",
        )
    write_atomic(path, text.encode())
    return "created" if before is None else "replaced"


def _first_difference(before: str, after: str) -> str:
    """The first line that differs, as it is and as it would be."""
    old, new = before.splitlines(), after.splitlines()
    for number in range(max(len(old), len(new))):
        left, right = (lines[number] if number < len(lines) else "" for lines in (old, new))
        if left != right:
            return f"line {number + 1}: {left.strip()}\nwould be: {right.strip()}"
    return "the ends of its lines"


def _ignore(path: Path) -> None:
    """Add the lines that git must pass over; what is there stays."""
    before = _text(path) or ""
    missing = [line for line in IGNORED if line not in before.splitlines()]
    if missing:
        gap = "" if not before or before.endswith("\n") else "\n"
        write_atomic(path, f"{before}{gap}{chr(10).join(missing)}\n".encode())


def _text(path: Path) -> str | None:
    """A file's text, or None where there is no file."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise storage_error(path, error) from error
