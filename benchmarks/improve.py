"""The loop of improvement on real rows: a domain that was left out, a control, a teacher, poison.

    python benchmarks/improve.py [--model smollm2-135m] [--domain f_block] [--json FILE]

The rows are those of examples/materials without one domain. What was left out goes three ways, by
whole chemical elements: some are held out, so that both halves of the held-out rows have groups
enough to tell; the others are in the pool, with the example's own. Then, each in processes of
`nexa` as a user starts them:

pool     `nexa improve --rounds 2 --control`: the domain must rise, more than as many random rows
         of the pool bring, and no other may fall
poison   the same model, and a pool whose answers in that domain are those of other rows: rolled
         back
echo     the same model, and a pool that holds evaluation rows: caught
teacher  a model that has seen a few rows of the domain, and a teacher on loopback that asks about
         the left-out rows and answers from their facts, but for one answer in five, which is wrong;
         first with a budget that does not reach

Told are seconds of each part and, of the first, without the control's.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[1]
MATERIALS = ROOT / "examples" / "materials"
PARTS = ("pool", "poison", "echo", "teacher")
HELD_OUT_GROUPS = 11  # elements of the domain that are held out beside those of eval.jsonl
ROWS_A_GROUP = 2  # of each of them
SEED_ROWS = 8  # of the domain, that the teacher's model has seen
WRONG_SHARE = 0.2
FENCED = re.compile(r"^(data-\w+) begin\n(.*)\n\1 end$", re.DOTALL | re.MULTILINE)
PRICE = "1,2"  # dollars for a million tokens
TOO_LITTLE = "0.0001"

Row = dict[str, Any]


@dataclass(frozen=True)
class Rows:
    """The example's rows, and where those of the domain went."""

    known: list[Row]
    held_out: list[Row]
    pool: list[Row]
    left_out: list[Row]
    """Of the domain, neither held out nor trained on: what the pool has of it, too."""
    domain: str


def main() -> int:
    """Run the parts, print what each came to; 1 where one did not do as it must."""
    options = arguments()
    rows = divided(options.domain, options.held_out_groups)
    folder = options.folder or Path(tempfile.mkdtemp(prefix="nexa-improve-"))
    try:
        results = [*run_parts(options, rows, folder)]
    finally:
        if options.folder is None:
            shutil.rmtree(folder, ignore_errors=True)
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")
    tell(results)
    return 0 if all(result["as_it_must"] for result in results) else 1


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--source", default="wheel", help="of an alias: auto, hub or wheel")
    parser.add_argument("--domain", default="f_block")
    parser.add_argument("--parts", default=",".join(PARTS), help="with commas; poison needs pool")
    parser.add_argument("--rows", type=int, default=60, help="candidates a round")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--held-out-groups", type=int, default=HELD_OUT_GROUPS)
    parser.add_argument("--steps", type=int, help="of each training; left out: as nexa init says")
    parser.add_argument("--new-tokens", type=int, help="of an answer; left out: as nexa init says")
    parser.add_argument("--folder", type=Path, help="an empty folder that is kept afterwards")
    parser.add_argument("--json", type=Path, metavar="FILE")
    return parser.parse_args()


# -- rows ------------------------------------------------------------------------------------------


def divided(domain: str, groups: int) -> Rows:
    """The example without a domain; whole elements of it go to the held-out rows, others stay."""
    train, held_out, pool = (read(name) for name in ("train", "eval", "pool"))
    by_group: dict[str, list[Row]] = defaultdict(list)
    for row in train:
        if row["domain"] == domain:
            by_group[row["group"]].append(row)
    names = sorted(by_group, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    asked = [row for name in names[:groups] for row in by_group[name][:ROWS_A_GROUP]]
    offered = [row for name in names[groups:] for row in by_group[name]]
    return Rows(
        known=[row for row in train if row["domain"] != domain],
        held_out=[*held_out, *asked],
        pool=[*pool, *offered],
        left_out=[*offered, *(row for row in pool if row["domain"] == domain)],
        domain=domain,
    )


def poisoned(rows: Rows) -> list[Row]:
    """The pool with each answer of the domain that of another row."""
    mine = [row for row in rows.pool if row["domain"] == rows.domain]
    wrong = {
        row["context"]: other["target_answer"]
        for row, other in zip(mine, [*mine[7:], *mine[:7]], strict=True)
    }
    return [
        {**row, "target_answer": wrong.get(row["context"], row["target_answer"])}
        for row in rows.pool
    ]


def read(name: str) -> list[Row]:
    """A file of the example."""
    return [json.loads(line) for line in (MATERIALS / f"{name}.jsonl").read_text().splitlines()]


def write(path: Path, rows: Sequence[Row]) -> None:
    """JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


# -- the parts -------------------------------------------------------------------------------------


def run_parts(options: argparse.Namespace, rows: Rows, folder: Path) -> list[dict[str, Any]]:
    """Each part in a project of its own; what needs the same first model begins with a copy."""
    wanted = options.parts.split(",")
    results: list[dict[str, Any]] = []
    if set(wanted) & {"pool", "poison", "echo"}:
        first = project(folder / "first", options, rows.known, rows.held_out, rows.pool)
        seconds = timed(lambda: nexa(first, "train"))
        for name, pool, judge in (
            ("pool", rows.pool, judge_pool),
            ("poison", poisoned(rows), judge_rolled_back),
            ("echo", rows.held_out, judge_echo),
        ):
            if name in wanted:
                place = copied(first, folder / name)
                write(place / "data" / "pool.jsonl", pool)
                more = ("--rounds", str(options.rounds), "--control") if name == "pool" else ()
                told = improved(place, *(more or ("--rounds", "1")))
                results.append(summed(name, told, judge(told), seconds, place))
    if "teacher" in wanted:
        results += teacher_part(options, rows, folder)
    return results


def teacher_part(options: argparse.Namespace, rows: Rows, folder: Path) -> list[dict[str, Any]]:
    """A teacher that is wrong in one answer of five: first without the money, then with it."""
    sys.path.insert(0, str(ROOT))
    from tests.support.scripted_endpoint import Script, ScriptedEndpoint

    seen = [row for row in rows.left_out if row["group"] == rows.left_out[0]["group"]][:SEED_ROWS]
    place = project(folder / "taught", options, [*rows.known, *seen], rows.held_out, [])
    seconds = timed(lambda: nexa(place, "train"))
    bank = [row for row in rows.left_out if row not in seen]
    results = []
    with ScriptedEndpoint(Script(function=Teacher(bank).answer)) as served:
        asked = ("--generator", "teacher", "--teacher", "scripted", "--base-url", served.url)
        asked += ("--price", PRICE, "--rounds", "1")
        poor = improved(place, *asked, "--budget-usd", TOO_LITTLE)
        refused = poor["exit_code"] == 25 and not served.billed
        results.append(summed("budget", poor, refused, seconds, place))
        rich = improved(place, *asked, "--budget-usd", "5")
        results.append(summed("teacher", rich, judge_teacher(rich), seconds, place))
    return results


def judge_pool(told: Mapping[str, Any]) -> bool:
    """The domain rises, and more than random rows of the pool bring."""
    kept = [one for one in told["rounds"] if one["accepted"]]
    if not kept:
        return False
    weak = [one for one in kept[0]["slices"] if one["weak"]]
    beside = [one for one in kept[0]["beside"] if one["weak"]]
    return bool(beside) and weak[0]["low"] > 0 and beside[0]["low"] > 0


def judge_rolled_back(told: Mapping[str, Any]) -> bool:
    """Nothing is kept of a round that was played."""
    return bool(told["rounds"]) and not told["accepted"]


def judge_echo(told: Mapping[str, Any]) -> bool:
    """Nothing is kept, and the reason names the echo."""
    return judge_rolled_back(told) and "echoed" in told["rounds"][0]["reason"]


def judge_teacher(told: Mapping[str, Any]) -> bool:
    """A round was played; kept or rolled back, its reason says why."""
    return bool(told["rounds"]) and bool(told["rounds"][0]["reason"])


def summed(
    name: str, told: dict[str, Any], good: bool, first_s: float, place: Path
) -> dict[str, Any]:
    """What a part came to, with its seconds; the first model's are told apart."""
    control = control_s(place)
    return {
        "part": name,
        "as_it_must": good,
        "first_model_s": round(first_s, 1),
        "improve_s": round(told["seconds"], 1),
        "control_s": round(control, 1),
        "pass_s": round(first_s + told["seconds"] - control, 1),
        "told": told,
    }


# -- projects and commands -------------------------------------------------------------------------


def project(
    folder: Path,
    options: argparse.Namespace,
    train: Sequence[Row],
    held_out: Sequence[Row],
    pool: Sequence[Row],
) -> Path:
    """Rows and a config.yaml, as `nexa init` writes it, with a section `feedback`."""
    for name, rows in (("train", train), ("eval", held_out), ("pool", pool)):
        if rows:
            write(folder / "data" / f"{name}.jsonl", rows)
    source = () if Path(options.model).exists() else ("--base-source", options.source)
    nexa(folder, "init", "--base", options.model, *source, "--method", "lora", "--data", "./data")
    path = folder / "config.yaml"
    tree = YAML().load(path.read_text())
    tree["eval"]["rows"] = len(held_out)
    tree["feedback"] = {"threshold": 0.6, "by": ["domain"], "rows": options.rows}
    if options.new_tokens:
        tree["eval"]["max_new_tokens"] = options.new_tokens
    if options.steps:
        tree["training"].pop("epochs", None)
        tree["training"]["max_steps"] = options.steps
        tree.pop("scheduler", None)
    with path.open("w") as file:
        YAML().dump(tree, file)
    return folder


def copied(project: Path, folder: Path) -> Path:
    """The same project somewhere else."""
    return Path(shutil.copytree(project, folder, symlinks=True))


def improved(place: Path, *options: str) -> dict[str, Any]:
    """`nexa improve` with these options: what it says as JSON, and its seconds."""
    begin = time.monotonic()
    text = nexa(place, "improve", "--json", *options, codes=(0, 25))
    told: dict[str, Any] = json.loads(text)
    if "error" in told:
        sys.exit(f"{place}: {told['error']['what']}\n{told['error']['found']}")
    return {**told, "seconds": time.monotonic() - begin}


def control_s(place: Path) -> float:
    """Seconds that controls took, by the logs of the project's runs."""
    seconds = 0.0
    for path in sorted((place / "runs" / "logs").glob("*.jsonl")):
        events = [json.loads(line) for line in path.read_text().splitlines()]
        at = {e["state"]: e["t"] for e in events if e["kind"] == "improve.control"}
        seconds += at["end"] - at["begin"] if len(at) == 2 else 0.0
    return seconds


def nexa(place: Path, *words: str, codes: Sequence[int] = (0,)) -> str:
    """A command in a process of its own; what it prints."""
    place.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", "nexa", *words],
        cwd=place,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in codes:
        sys.exit(f"nexa {' '.join(words)} ended with {done.returncode}:\n{done.stderr[-4000:]}")
    return done.stdout


def timed(work: Callable[[], object]) -> float:
    """Seconds that it takes."""
    begin = time.monotonic()
    work()
    return time.monotonic() - begin


# -- the teacher -----------------------------------------------------------------------------------


class Teacher:
    """Asks about rows that nobody trained on, and answers from their facts, but for every fifth."""

    def __init__(self, bank: Sequence[Row]) -> None:
        self._bank = list(bank)
        self._answers = {_asked(row): row["target_answer"] for row in bank}

    def answer(self, messages: list[dict[str, str]]) -> str:
        """What it says to a prompt of nexa.feedback's."""
        text = messages[-1]["content"]
        found = FENCED.search(text)
        given = json.loads(found[2]) if found else {}
        if "question" not in given:  # it is asked for a question
            number = int((re.findall(r"variation number\n?\s*(\d+)", text) or ["1"])[0])
            return json.dumps({"question": _asked(self._bank[(number - 1) % len(self._bank)])})
        right = self._answers.get(given["question"], {})
        told = _wrong(right) if _share(text) < WRONG_SHARE else right
        return json.dumps({"answer": json.dumps(told, ensure_ascii=False)})


def _asked(row: Row) -> str:
    return f"{row['context']}\n\n{row['prompt']}"


def _wrong(answer: Row) -> Row:
    """A number that is not the fact, or a text that is not."""
    changed = dict(answer)
    for name, value in changed.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            return {**changed, name: value + 1}
    return {name: "unknown" for name in changed}


def _share(text: str) -> float:
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) / 16**8


# -- for people ------------------------------------------------------------------------------------


def tell(results: Sequence[Mapping[str, Any]]) -> None:
    """Parts and rounds, one line each."""
    for result in results:
        told = result["told"]
        state = "as it must" if result["as_it_must"] else "NOT AS IT MUST"
        print(
            f"{result['part']:8} {state}; first model {result['first_model_s']:.0f} s, improve "
            f"{result['improve_s']:.0f} s, of that the control {result['control_s']:.0f} s; in all "
            f"without it {result['pass_s'] / 60:.1f} min; {told['spent_usd']:.4f} USD; "
            f"{told['ended']}"
        )
        for one in told["rounds"]:
            verdict = "accepted" if one["accepted"] else "rolled back"
            print(f"  round {one['number']}: {one['added']} rows, {verdict}: {one['reason']}")
            print(f"    left out: {one['rejected'] or 'none'}")
            for title in ("slices", "control", "beside"):
                for part in one[title]:
                    mark = "*" if part["weak"] else " "
                    print(
                        f"    {title:8}{mark} {part['name']:32} {_told(part['before'])} -> "
                        f"{_told(part['after'])}  {part['difference']:+.3f} "
                        f"[{part['low']:+.3f}, {part['high']:+.3f}] {part['rows']} rows"
                    )


def _told(share: float | None) -> str:
    return "  -  " if share is None else f"{share:.3f}"


if __name__ == "__main__":
    sys.exit(main())
