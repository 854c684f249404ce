"""The lab's door: `python orchestrate.py --stage data_gen|train|eval|publish`.

The same steps as the `nexa` commands, under the names and options of the lab's specification.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from nexa.cli.main import main


def command_line(argv: Sequence[str]) -> list[str]:
    """The `nexa` command that a stage stands for."""
    parser = argparse.ArgumentParser(prog="orchestrate.py", description=__doc__)
    parser.add_argument("--stage", required=True, choices=["data_gen", "train", "eval", "publish"])
    parser.add_argument("--config", default="config.yaml", help="of data_gen and train")
    parser.add_argument("--mode", default="sft", choices=["sft"], help="how to train")
    parser.add_argument("--run_id", default="latest", help="the run to evaluate")
    parser.add_argument("--model_dir", default="./output", help="the model to publish")
    parser.add_argument("--repo", help="OWNER/NAME to publish it as; else config.yaml's")
    parser.add_argument("--hub", help="where to publish: local, a folder, a Hub's address")
    asked = parser.parse_args(argv)
    given = [("--repo", asked.repo), ("--hub", asked.hub)]
    return {
        "data_gen": ["data", "prepare", asked.config],
        "train": ["train", asked.config],
        "eval": ["eval", asked.run_id],
        "publish": ["publish", asked.model_dir, *(w for pair in given if pair[1] for w in pair)],
    }[asked.stage]


if __name__ == "__main__":
    sys.exit(main(command_line(sys.argv[1:])))
