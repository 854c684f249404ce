"""The one piece of work: which rows, in which order, how many tokens, learnt with which settings.

Nexa draws the order of rows by itself, so its order is everybody's: the peers get the rows in it
and take them as they come. Tokens are counted here, once, from the model's chat template, and not
by who is measured: a contestant that computes a shared prompt once has not trained on fewer.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nexa.core.identity import sha256_file

if TYPE_CHECKING:
    from nexa.train.batches import TokenRow

RANK, ALPHA = 16, 32
LEARNING_RATE = 2e-4
MAX_LENGTH = 512  # tokens a row
SEED = 0

# All copies of the project have one name, for Nexa may call a dataset after its folder.
PREPARED, RUN = Path("prepared", "contest"), Path("run", "contest")
ORDERED, WORK = "rows.jsonl", "work.json"


@dataclass(frozen=True)
class Work:
    """Rows of one pass over a file, step by step; a last, smaller step is left out."""

    model: str
    rows_name: str
    rows_sha256: str
    rows_per_step: int
    rows: int  # that are trained on: a share of the file is held out
    tokens: list[int]  # of each step, without padding
    label_tokens: list[int]  # of each step: those that bear loss
    token_pairs: list[int]  # of each step: the sum of its rows' squared lengths

    @property
    def asked(self) -> tuple[str, str, str, int]:
        """What it was made from."""
        return self.model, self.rows_name, self.rows_sha256, self.rows_per_step

    @property
    def identity(self) -> dict[str, Any]:
        """What two runs must have in common to be compared."""
        return {
            "model": Path(self.model).name,
            "rows": self.rows_name,
            "rows_sha256": self.rows_sha256,
            "rows_per_step": self.rows_per_step,
        }


def make(folder: Path, rows: Path, model: Path, rows_per_step: int) -> Work:
    """Prepare the rows as `nexa data prepare` does, and lay out what is learnt from them.

    Leaves in `folder` a prepared project of Nexa (`prepared/contest`), and the rows in their
    order for the peers (`rows.jsonl`). Work that is there already is taken as it is.

    Raises:
        SystemExit: the rows do not suit every contestant; says why.
    """
    model = model.resolve()
    asked = (str(model), rows.name, sha256_file(rows), rows_per_step)
    made = read(folder)
    if made is not None and asked == made.asked:
        return made
    project = folder / PREPARED
    shutil.rmtree(project, ignore_errors=True)
    project.mkdir(parents=True)
    shutil.copy(rows, project / rows.name)
    write_config(project, model, rows.name, rows_per_step, steps=1)
    order, conversations = _trained_on(project)
    with (folder / ORDERED).open("w", encoding="utf-8") as file:
        for row in order:
            file.write(json.dumps({"messages": _one_answer(conversations[row.row_id])}) + "\n")
    whole = range(0, len(order) - rows_per_step + 1, rows_per_step)
    steps = [order[begin : begin + rows_per_step] for begin in whole]
    work = Work(
        *asked,
        rows=len(order),
        tokens=[sum(len(row.ids) for row in step) for step in steps],
        label_tokens=[sum(row.labels for row in step) for step in steps],
        token_pairs=[sum(len(row.ids) ** 2 for row in step) for step in steps],
    )
    (folder / WORK).write_text(json.dumps(asdict(work)), encoding="utf-8")
    return work


def read(folder: Path) -> Work | None:
    """The work that `make` left in a folder."""
    path = folder / WORK
    return Work(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None


def write_config(
    project: Path,
    model: Path | str,
    rows: str,
    rows_per_step: int,
    *,
    steps: int,
    engine: str = "auto",
    precision: str = "auto",
) -> Path:
    """The config.yaml of the work, for Nexa."""
    from ruamel.yaml import YAML

    config = {
        "model": {"path": str(model)},
        "data": {"train_path": rows, "batch_size": rows_per_step, "max_length": MAX_LENGTH},
        "optimizer": {"lr": LEARNING_RATE},
        "scheduler": {"name": "constant"},
        "lora": {"rank": RANK, "alpha": ALPHA},
        "training": {
            "max_steps": steps,
            "engine": engine,
            "precision": precision,
            "seed": SEED,
        },
    }
    path = project / "config.yaml"
    with path.open("w", encoding="utf-8") as file:
        YAML().dump(config, file)
    return path


def _trained_on(project: Path) -> tuple[list[TokenRow], dict[str, list[dict[str, str]]]]:
    """The rows of the first pass in Nexa's order, and every row's conversation by its id."""
    from nexa.core.config import load_config
    from nexa.core.tiers import Tiers
    from nexa.lm.chat import ChatTemplate
    from nexa.lm.tokenizer import load_tokenizer
    from nexa.orchestrate import plan
    from nexa.orchestrate.run import prepare_only
    from nexa.train.batches import row_order
    from nexa.train.rows import read_conversations, training_rows

    config, tiers = project / "config.yaml", Tiers.of(project)
    dataset = prepare_only(config)
    chat = ChatTemplate(load_tokenizer(plan.base_model(load_config(config), tiers)))
    rows = training_rows(dataset, tiers.store, chat, MAX_LENGTH).rows
    order = row_order([row.row_id for row in rows], seed=SEED, epoch=0)
    conversations = dict(read_conversations(tiers.store.path(dataset, "train.parquet")))
    return [rows[i] for i in order], conversations


def _one_answer(messages: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """A conversation in which every contestant learns the same turn: the last one.

    Raises:
        SystemExit: there are more answers; not every peer can be told to learn all of them.
    """
    answers = [place for place, turn in enumerate(messages) if turn["role"] == "assistant"]
    if answers != [len(messages) - 1]:
        raise SystemExit(
            f"a row has answers at the places {answers} of its {len(messages)} turns: the contest "
            "takes rows with one answer, at their end"
        )
    return [{"role": turn["role"], "content": turn["content"]} for turn in messages]
