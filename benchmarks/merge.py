"""Merging three models: Nexa against mergekit, same recipes, float32, in turn.

    python benchmarks/merge.py --model FOLDER --environments FOLDER [--tuned FOLDER --tuned FOLDER]
        [--methods linear,task_arithmetic,slerp,ties] [--pairs 3] [--json FILE.jsonl]

The three are a base and two fine-tunes of it: those that are named, or copies of the base with
seeded noise of 2 % of each tensor's spread. The base is written in float32 first. A run is a whole
command, `nexa merge RECIPE` (with its proof) or `mergekit-yaml RECIPE`, in a process of its own;
the two take turns. Told are wall seconds, the largest anonymous memory (RssAnon of the process and
its children, looked at every 20 ms) and how far the two results are apart.

TIES leaves open which of several equal numbers at its threshold are kept: mergekit takes those
that an unstable sort puts first, Nexa those that come first. Such numbers are counted and left out
of the largest difference.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from contest import environments
from contest.kept import Kept
from safetensors import safe_open
from safetensors.torch import save_file

TOOLS = ("nexa", "mergekit")
NOISE = 0.02  # of each tensor's standard deviation
DENSITY = 0.5
BAR = 1e-3  # max |nexa - mergekit| / max |mergekit|, of every tensor
POLL_S = 0.02
BASE, FIRST, SECOND = "base", "first", "second"

ONE_EACH = {"parameters": {"weight": 0.5}}
SPARSE = {"parameters": {"weight": 0.5, "density": DENSITY}}
RECIPES: dict[str, dict[str, Any]] = {
    "linear": {"models": [{"model": name, **ONE_EACH} for name in (BASE, FIRST, SECOND)]},
    "task_arithmetic": {
        "base_model": BASE,
        "models": [{"model": name, **ONE_EACH} for name in (FIRST, SECOND)],
    },
    "slerp": {
        "base_model": FIRST,
        "models": [{"model": FIRST}, {"model": SECOND}],
        "parameters": {"t": 0.4},
    },
    "ties": {
        "base_model": BASE,
        "models": [{"model": name, **SPARSE} for name in (FIRST, SECOND)],
    },
}


def main() -> None:
    """Make the models, merge them in turn, compare the results and print a table."""
    options = arguments()
    methods = options.methods.split(",")
    work = {"model": options.model.name, "tuned": [path.name for path in options.tuned]}
    kept = Kept(options.json, work)
    mergekit = environments.make("mergekit", options.environments).parent / "mergekit-yaml"
    with tempfile.TemporaryDirectory(prefix="nexa-merging-", dir=options.scratch) as place:
        models = make_models(Path(place), options)
        for method in methods:
            recipe = write_recipe(Path(place), method, models)
            for _ in range(options.pairs):
                runs = {tool: run(tool, recipe, Path(place), mergekit) for tool in TOOLS}
                told(kept.add("pair", method=method, **runs))
            found = differences(Path(place) / "nexa", Path(place) / "mergekit", method, models)
            told(kept.add("difference", method=method, **found))
    print(table(kept))


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", type=Path, required=True, help="the base, a model folder")
    parser.add_argument(
        "--tuned", type=Path, action="append", default=[], help="a fine-tune of it; give it twice"
    )
    parser.add_argument(
        "--environments", type=Path, required=True, help="a folder for mergekit's; made with pip"
    )
    parser.add_argument("--methods", default=",".join(RECIPES), help="with commas between")
    parser.add_argument("--pairs", type=int, default=3, help="runs of each tool and method")
    parser.add_argument("--scratch", type=Path, help="where the models are made; 3 GB for 135M")
    parser.add_argument("--json", type=Path, help="keep every measurement in it")
    options = parser.parse_args()
    if len(options.tuned) not in (0, 2):
        parser.error("give --tuned twice, or not at all")
    unknown = set(options.methods.split(",")) - set(RECIPES)
    if unknown:
        parser.error(f"no such method: {', '.join(sorted(unknown))}; of {', '.join(RECIPES)}")
    return options


# -- the work --------------------------------------------------------------------------------------


def make_models(place: Path, options: argparse.Namespace) -> dict[str, Path]:
    """The base and its fine-tunes as folders, all in float32."""
    sources = [options.model, *(options.tuned or [options.model] * 2)]
    folders = {}
    for seed, (name, source) in enumerate(zip((BASE, FIRST, SECOND), sources, strict=True)):
        folders[name] = place / name
        noise = 0.0 if options.tuned else NOISE * min(seed, 1)
        write_model(source, folders[name], noise, torch.Generator().manual_seed(seed))
    return folders


def write_model(source: Path, folder: Path, noise: float, generator: torch.Generator) -> None:
    """A model folder in float32, each tensor with noise of that share of its spread."""
    folder.mkdir()
    for path in source.iterdir():
        if path.is_dir() or path.suffix == ".safetensors" or path.name.endswith(".index.json"):
            continue
        shutil.copyfile(path, folder / path.name)
    config = json.loads((folder / "config.json").read_bytes())
    config.pop("torch_dtype", None)
    (folder / "config.json").write_text(json.dumps({**config, "dtype": "float32"}))
    tensors = {}
    for name, path in names(source).items():
        tensor = stored(path, name)
        spread = float(tensor.std(correction=0)) * noise
        tensors[name] = tensor.add_(torch.randn(tensor.shape, generator=generator), alpha=spread)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def names(folder: Path) -> dict[str, Path]:
    """A model's tensors, each with its file."""
    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            found |= dict.fromkeys(file.keys(), path)
    return found


def stored(path: Path, name: str) -> torch.Tensor:
    """A copy of a tensor in float32."""
    with safe_open(path, framework="pt") as file:
        return file.get_tensor(name).to(torch.float32, copy=True)


def write_recipe(place: Path, method: str, models: dict[str, Path]) -> Path:
    """The recipe that both tools read; JSON is YAML, too."""
    text = json.dumps({"merge_method": method, "dtype": "float32", **RECIPES[method]}, indent=1)
    for name, folder in models.items():
        text = text.replace(json.dumps(name), json.dumps(str(folder)))
    path = place / f"{method}.yaml"
    path.write_text(text, encoding="utf-8")
    return path


# -- one run ---------------------------------------------------------------------------------------


def run(tool: str, recipe: Path, place: Path, mergekit: Path) -> dict[str, Any]:
    """One merge by one tool into `place/tool`.

    Raises:
        SystemExit: it failed; tells what it said.
    """
    out = place / tool
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "nexa", "merge", str(recipe), "--output", str(out)]
    if tool == "mergekit":
        command = [str(mergekit), str(recipe), str(out)]
    project = Path(tempfile.mkdtemp(prefix="project-", dir=place))
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    with (project / "said").open("w+") as said:
        begin = time.monotonic()
        process = subprocess.Popen(
            command, cwd=project, env=environment, stdout=said, stderr=subprocess.STDOUT
        )
        peak = 0
        while process.poll() is None:
            peak = max(peak, anonymous_bytes(process.pid))
            time.sleep(POLL_S)
        wall_s = time.monotonic() - begin
        if process.returncode:
            raise SystemExit(f"{tool} failed:\n{(project / 'said').read_text()[-4000:]}")
    shutil.rmtree(project)
    return {"wall_s": wall_s, "anonymous_bytes": peak}


def anonymous_bytes(pid: int) -> int:
    """What a process and its children have in memory that no file backs; 0 when it has ended."""
    folder = Path("/proc") / str(pid)
    try:
        lines = (folder / "status").read_text().splitlines()
        own = next((int(line.split()[1]) for line in lines if line.startswith("RssAnon")), 0)
        children = (folder / "task" / str(pid) / "children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return own * 1024 + sum(anonymous_bytes(int(child)) for child in children)


# -- the results -----------------------------------------------------------------------------------


def differences(ours: Path, theirs: Path, method: str, models: dict[str, Path]) -> dict[str, Any]:
    """The largest relative difference of a tensor, and which names only one of the two wrote."""
    files, others = names(ours), names(theirs)
    worst, worst_name, undecided = 0.0, "", 0
    for name in sorted(set(files) & set(others)):
        wanted = stored(others[name], name).numpy()
        far = np.abs(stored(files[name], name).numpy() - wanted)
        if method == "ties":
            open_to_choice = tied_numbers(models, name)
            undecided += int(open_to_choice.sum())
            far[open_to_choice] = 0
        relative = float(far.max() / np.abs(wanted).max())
        if not relative <= worst:  # also when it is no number
            worst, worst_name = relative, name
    return {
        "largest": worst,
        "tensor": worst_name,
        "tensors": len(set(files) & set(others)),
        "undecided": undecided,
        "only_one": sorted(set(files) ^ set(others)),
    }


def tied_numbers(models: dict[str, Path], name: str) -> np.ndarray:
    """Where a task vector has equals at its threshold of which TIES keeps only some."""
    file = "model.safetensors"
    base = stored(models[BASE] / file, name).numpy()
    tied = np.zeros(base.shape, bool)
    for model in (FIRST, SECOND):
        sizes = np.abs(stored(models[model] / file, name).numpy() - base)
        kept = max(1, int(DENSITY * sizes.size))
        threshold = np.partition(sizes, sizes.size - kept, axis=None)[sizes.size - kept]
        if (sizes >= threshold).sum() > kept:
            tied |= sizes == threshold
    return tied


def told(record: dict[str, Any]) -> None:
    """One line when something is measured."""
    if record["kind"] == "pair":
        seen = "; ".join(
            f"{tool} {record[tool]['wall_s']:.1f} s, "
            f"{record[tool]['anonymous_bytes'] / 1e9:.2f} GB anonymous"
            for tool in TOOLS
        )
        print(f"{record['method']}: {seen}; load {record['load']}", flush=True)
    else:
        print(
            f"{record['method']}: {record['tensors']} tensors, the largest difference "
            f"{record['largest']:.1e} ({record['tensor']}); {record['undecided']} numbers open to "
            f"choice; written by one only: {', '.join(record['only_one']) or 'none'}",
            flush=True,
        )


def table(kept: Kept) -> str:
    """The medians of all that is kept, as Markdown; the ratio is that of paired runs."""
    lines = [
        "| method | Nexa, s | mergekit, s | ratio | Nexa, GB anonymous | mergekit, GB | "
        f"largest difference (bar {BAR:g}) |",
        "|---|---|---|---|---|---|---|",
    ]
    far = {r["method"]: r["largest"] for r in kept.records if r["kind"] == "difference"}
    for method, largest in far.items():
        pairs = [r for r in kept.records if r["kind"] == "pair" and r["method"] == method]
        wall = [[pair[tool]["wall_s"] for pair in pairs] for tool in TOOLS]
        ratio = statistics.median(a / b for a, b in zip(*wall, strict=True))
        memory = [max(pair[tool]["anonymous_bytes"] for pair in pairs) / 1e9 for tool in TOOLS]
        lines.append(
            f"| {method} | {statistics.median(wall[0]):.1f} | {statistics.median(wall[1]):.1f} "
            f"| {ratio:.2f} | {memory[0]:.2f} | {memory[1]:.2f} "
            f"| {largest:.1e}{'' if largest <= BAR else ', too far'} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
