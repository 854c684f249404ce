"""The lab's door: `python orchestrate.py --stage data_gen|train|eval|feedback|publish`.

The same steps as the `nexa` commands, under the names and options of the lab's specification.
"""

from __future__ import annotations

import argparse
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence

from nexa.cli.main import main

TEACHER = ("teacher", "base_url", "price", "budget_usd")


def command_line(argv: Sequence[str]) -> list[str]:
    """The `nexa` command that a stage stands for."""
    parser = argparse.ArgumentParser(prog="orchestrate.py", description=__doc__)
    parser.add_argument("--stage", required=True, choices=list(STAGES))
    parser.add_argument("--config", default="config.yaml", help="of data_gen and train")
    parser.add_argument("--dataset", metavar="ID", help="of data_gen: what the dataset is called")
    parser.add_argument("--mode", default="sft", choices=["sft", "distill"], help="how to train")
    parser.add_argument("--teacher", metavar="MODEL", help="who writes rows, or answers prompts")
    parser.add_argument("--generator", metavar="NAME", help="of feedback: who makes candidates")
    parser.add_argument("--pool", metavar="FILE", help="of feedback: labelled rows not trained on")
    parser.add_argument("--student", metavar="MODEL", help="of distill: what is trained")
    parser.add_argument("--data", metavar="DATA", help="of distill: the prompts")
    parser.add_argument("--method", help="of data_gen with a teacher: how rows are written")
    parser.add_argument("--rows", help="of data_gen with a teacher, of distill and of feedback")
    parser.add_argument("--base_url", help="where the teacher is asked")
    parser.add_argument("--price", help="dollars for a million tokens: IN,OUT")
    parser.add_argument("--budget_usd", help="the most that the teacher may cost")
    parser.add_argument("--run_id", default="latest", help="the run to evaluate or improve on")
    parser.add_argument("--model_dir", default="./output", help="the model to publish")
    parser.add_argument("--repo", help="OWNER/NAME to publish it as; else config.yaml's")
    parser.add_argument("--hub", help="where to publish: local, a folder, a Hub's address")
    asked = parser.parse_args(argv)
    if asked.mode == "distill" and asked.teacher is None:
        parser.error("--mode distill needs --teacher")
    if asked.stage == "data_gen" and asked.teacher and asked.dataset is None:
        parser.error("a teacher writes rows for a dataset: --dataset ID")
    return STAGES[asked.stage](asked)


def _data_gen(asked: Namespace) -> list[str]:
    if asked.teacher is None:
        return ["data", "prepare", asked.config, *_given(asked, "dataset")]
    named = _given(asked, "method", "rows", *TEACHER)
    return ["data", "augment", asked.dataset, *named, "--config", asked.config]


def _train(asked: Namespace) -> list[str]:
    if asked.mode == "distill":
        return ["distill", *_given(asked, "student", "data", "rows", *TEACHER)]
    return ["train", asked.config]


def _eval(asked: Namespace) -> list[str]:
    return ["eval", asked.run_id]


def _feedback(asked: Namespace) -> list[str]:
    return ["feedback", asked.run_id, *_given(asked, "generator", "pool", "rows", *TEACHER)]


def _publish(asked: Namespace) -> list[str]:
    return ["publish", asked.model_dir, *_given(asked, "repo", "hub")]


def _given(asked: Namespace, *names: str) -> list[str]:
    """The options that were given, as nexa writes them."""
    values = {name: getattr(asked, name) for name in names}
    pairs = [(f"--{name.replace('_', '-')}", value) for name, value in values.items() if value]
    return [word for pair in pairs for word in pair]


STAGES: dict[str, Callable[[Namespace], list[str]]] = {
    "data_gen": _data_gen,
    "train": _train,
    "eval": _eval,
    "feedback": _feedback,
    "publish": _publish,
}

if __name__ == "__main__":
    sys.exit(main(command_line(sys.argv[1:])))
