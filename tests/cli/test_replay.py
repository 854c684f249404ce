from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nexa.cli.main import main
from nexa.core.ledger import write_noted
from nexa.core.manifest import ManifestFile
from tests.support.project import Finished, train, write_config

Captured = pytest.CaptureFixture[str]
ROOT = Path(__file__).parents[2]
SIGNALLED = """
import os, signal, sys
from nexa.cli.main import main
from nexa.core.events import listening

def sink(event):
    if event["kind"] == "progress" and event["task"] == "training" and event["done"] == 3:
        os.kill(os.getpid(), signal.SIGINT)

with listening(sink):
    sys.exit(main(["replay", "-q"]))
"""


def test_an_equal_replay_says_so_and_ends_with_0(project: Finished, capsys: Captured) -> None:
    assert main(["replay"]) == 0
    out, err = capsys.readouterr()
    first, verdict, sha256, apart = out.splitlines()
    took = r"[\d.]+ s"
    assert re.fullmatch(rf"Run {project.manifest.run_id}, 4 steps: {took}, {took} then", first)
    assert verdict == "Equal: the weights are those of the run, bit for bit."
    assert re.fullmatch(r"  sha256  [0-9a-f]{64}", sha256)
    assert apart == "  losses  equal in all 4 steps"
    assert "training: 4 steps in" in err


def test_as_json_it_is_one_object(project: Finished, capsys: Captured) -> None:
    assert main(["replay", "latest", "--json", "--seeds", "2"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["run_id"], told["equal"], told["exit_code"]) == (
        *(project.manifest.run_id, True),
        0,
    )
    assert told["sha256_then"] == told["sha256_now"]
    assert told["losses"]["largest"] == 0.0
    assert [metric["metric"] for metric in told["metrics"]] == ["first_loss", "final_loss"]


def test_another_training_under_the_same_name_ends_with_10(
    project: Finished, tiny_llama: Path, capsys: Captured
) -> None:
    write_config(project.root, tiny_llama, training={"seed": 1, "max_steps": 5})
    other = train(project.config).outputs["checkpoint"]
    path = project.tiers.manifests / f"{project.manifest.run_id}.json"
    forged = project.manifest.model_copy(
        update={"outputs": project.manifest.outputs | {"checkpoint": other}}
    )
    write_noted(path, ManifestFile(path, forged).to_bytes(), closed=True)
    assert main(["replay", forged.run_id, "--seeds", "2"]) == 10
    out, err = capsys.readouterr()
    assert "Different: these are not the weights of the run." in out
    assert re.search(r"  sha256 then  [0-9a-f]{64}\n  sha256 now   [0-9a-f]{64}\n", out)
    assert "  steps        5 then, 4 now\n" in out
    told = r"  losses       apart from step 1 on, farthest at step \d: [\d.e-]+ nats a token\n"
    assert re.search(told, out)
    assert "  differs 1    recipe: this version of nexa reads" in out
    assert re.search(r"final_loss  [\d.]+ +[\d.]+ +[\d.e-]+ +up to [\d.e-]+\n", out)
    assert "note: differs from run" in err.partition("training (")[0]


def test_a_gpu_s_replay_is_equal_but_for_what_seeds_make(
    project: Finished, capsys: Captured
) -> None:
    from nexa.cli.replay import _tell
    from nexa.cli.show import Output
    from nexa.orchestrate.replay import Replay
    from nexa.orchestrate.replay_compare import loss_distance, metric_distance

    near = metric_distance("final_loss", 1.0, 1.001, [0.9, 1.0, 1.1])
    apart = loss_distance([{"step": 1, "loss": 1.0}], [{"step": 1, "loss": 1.001}])
    found = Replay("a", True, "11", "22", apart, (), (), 61.0, None, (near,))
    _tell(Output(), found)
    out = capsys.readouterr().out.splitlines()
    assert out[:2] == [
        "Run a, 1 steps: 1 min 01 s",
        "Equal but for what seeds make: a GPU does not give equal bits.",
    ]


def test_a_dry_run_tells_what_would_be_trained_and_how_long_it_took(
    project: Finished, capsys: Captured
) -> None:
    assert main(["replay", "--dry-run"]) == 0
    told = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert told["run"] == project.manifest.run_id
    assert told["steps"] == "4"
    assert told["took"].endswith(" s")
    assert told["differs"] == "nothing that bits hang on"
    (project.tiers.logs / f"{project.manifest.run_id}.jsonl").unlink()
    assert main(["replay", "--dry-run"]) == 0
    assert "not known: the run's log does not say" in capsys.readouterr().out
    assert main(["replay", "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["took"] is None


@pytest.mark.parametrize(
    ("words", "code", "what"),
    [
        (["1999"], 2, "there is no run 1999"),
        (["--seeds", "1"], 2, "1 is not in the range"),
    ],
    ids=["unknown", "seeds"],
)
def test_what_cannot_be_replayed_is_told(
    project: Finished, capsys: Captured, words: list[str], code: int, what: str
) -> None:
    assert main(["replay", *words]) == code
    assert what in capsys.readouterr().err


def test_ctrl_c_ends_it_with_130_and_leaves_nothing(project: Finished) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SIGNALLED],
        cwd=project.root,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL) and None,
    )
    assert done.returncode == 130, done.stderr
    told = done.stderr.splitlines()
    assert told[-3] == "stopped; what was finished is kept"
    assert told[-2] == "  found  step 3 of 4 was done; a replay keeps nothing"
    assert told[-1] == f"  try    nexa replay {project.manifest.run_id}   begins anew"
    assert list(project.tiers.scratch.glob("replay-*")) == []
