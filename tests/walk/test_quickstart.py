"""The four quick-start lines of the NexaCompute specification (section 15), as they stand there.

They run in a folder with a config.yaml: the teacher is an OpenAI-compatible server on loopback, the
student's weights are on an emulated Hub. Nothing in the child processes is replaced.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from nexa.core.manifest import RunManifest, list_manifests
from nexa.core.records import Artifact
from nexa.core.tiers import Tiers
from tests.architecture.files import ROOT
from tests.support.hub_emulator import HubEmulator
from tests.support.project import rows, write_config, write_rows
from tests.support.scripted_endpoint import Script, ScriptedEndpoint
from tests.support.teacher import teach
from tests.support.tiny import write_tiny_model
from tests.walk.test_walk import SPEED

DATA_GEN = "python orchestrate.py --stage data_gen --dataset plasma_v1"
TRAIN = "python orchestrate.py --stage train --mode distill --teacher gpt-4o --student mistral-7b"
EVAL = "python orchestrate.py --stage eval --run_id {run_id}"  # there: 2025-10-28_141200
FEEDBACK = "python orchestrate.py --stage feedback"
STUDENT = "mistralai/Mistral-7B-Instruct-v0.3"  # what the alias mistral-7b stands for


@dataclass
class Lab:
    """A folder, and what each line printed there."""

    folder: Path
    environment: dict[str, str]
    printed: dict[str, str] = field(default_factory=dict)

    def line(self, line: str) -> None:
        """Run a line of the specification in a process of its own; it ends well."""
        python, script, *words = shlex.split(line)
        assert (python, script) == ("python", "orchestrate.py")
        done = subprocess.run(
            [sys.executable, str(ROOT / script), *words],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        self.printed[words[1]] = done.stdout

    def runs(self) -> list[RunManifest]:
        return list_manifests(Tiers.of(self.folder).manifests)

    def made(self, run: RunManifest, role: str) -> Artifact[object]:
        return Tiers.of(self.folder).store.by_digest(run.outputs[role])


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The four lines, in their order."""
    folder = tmp_path_factory.mktemp("lab")
    model = write_tiny_model(folder / "weights", "mistral")
    project = folder / "plasma"
    write_rows(project / "train.jsonl", rows(range(40)))
    write_rows(project / "eval.jsonl", rows(range(100, 130)))
    write_rows(project / "pool.jsonl", rows(range(200, 240)))
    write_config(project, "mistral-7b", eval={"rows": 30}, feedback={"threshold": 0.9})
    with ScriptedEndpoint(Script(function=teach)) as teacher, HubEmulator() as hub:
        hub.add_repo(STUDENT, {path.name: path.read_bytes() for path in model.iterdir()})
        environment = {
            **{name: text for name, text in os.environ.items() if not name.startswith("HF_")},
            **SPEED,
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_ENDPOINT": hub.url,
            "HF_HUB_CACHE": str(folder / "hub-cache"),
            "NEXA_CACHE": str(folder / "cache"),
            "OPENAI_BASE_URL": teacher.url,
            "OPENAI_API_KEY": "a-key-of-the-test",
        }
        lab = Lab(project, environment)
        lab.line(DATA_GEN)
        lab.line(TRAIN)
        run_id = lab.runs()[-1].run_id  # 2026-01-31-120000-abcd
        lab.line(EVAL.format(run_id=f"{run_id[:10]}_{run_id[11:17]}"))
        lab.line(FEEDBACK)
        yield lab


def test_each_line_leaves_a_run_that_ended_well(lab: Lab) -> None:
    kinds = [(run.run_type, run.status) for run in lab.runs()]
    assert kinds == [
        ("data_gen", "done"),
        ("distill", "done"),
        ("eval", "done"),
        ("feedback", "done"),
    ]


def test_the_first_makes_the_dataset_of_that_name(lab: Lab) -> None:
    assert lab.runs()[0].dataset_id == "plasma_v1@v1"


def test_the_second_trains_the_student_on_what_the_teacher_answered(lab: Lab) -> None:
    run = lab.runs()[1]
    assert (run.teacher_model, run.student_model) == ("gpt-4o", "mistral-7b")
    assert run.verdict is not None
    assert (lab.folder / "output" / "model.safetensors").is_file()


def test_the_third_scores_the_run_of_that_second(lab: Lab) -> None:
    _, trained, evaluated, _ = lab.runs()
    assert evaluated.outputs["scores"] == trained.outputs["tuned_scores"]


def test_the_fourth_makes_a_version_with_rows_where_the_student_is_weak(lab: Lab) -> None:
    trained, feedback = lab.runs()[1], lab.runs()[3]
    assert feedback.outputs["dataset"] != trained.outputs["dataset"]
    made = lab.made(feedback, "dataset")
    assert made.inputs["dataset"] == trained.outputs["dataset"]
    assert re.search(r"dataset/\S+@v2: \d+ rows added", lab.printed["feedback"])
    assert f"data.train_path: dataset/{made.name} " in lab.printed["feedback"]


def test_what_it_made_is_what_the_next_training_takes(lab: Lab) -> None:
    made = lab.made(lab.runs()[3], "dataset")
    config = lab.folder / "config.yaml"
    text = config.read_text().replace("./train.jsonl", f"dataset/{made.name}")
    config.write_text(text)
    lab.line("python orchestrate.py --stage train")
    run = lab.runs()[-1]
    assert (run.status, run.outputs["dataset"]) == ("done", made.digest)
    told = json.loads((lab.folder / "output" / "final_model.json").read_text())
    assert told["dataset"] == made.label
