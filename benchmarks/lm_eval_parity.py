"""The same tasks by lm-eval's own command and by `nexa eval --harness`: digit for digit.

    python benchmarks/lm_eval_parity.py --model FOLDER [--limit N] [--gsm8k FILE] [--json FILE]

Two tasks are written from examples/materials/eval.jsonl: `nexa_choice` weighs the right record
against two others, as plain text and without the notes, so that nobody finds it every time;
`nexa_record` writes the record, in the model's chat template,
after two examples, until a blank line. With --gsm8k (lines of `question` and `answer`) there is a
third: five examples, and the number after `####`. lm-eval runs in a process of its own:

    lm_eval run --model hf --model_args pretrained=FOLDER,dtype=float32 --batch_size 1 ...

Compared are every log-likelihood, every answer, and every metric with its standard error.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROWS = Path(__file__).parents[1] / "examples" / "materials" / "eval.jsonl"
CLOSE_NATS = 1e-3
DIGITS = 9
TEMPLATED = frozenset({"nexa_record"})
HEAD = """task: {name}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {file}
test_split: test
metadata:
  version: 1.0
"""
MEAN = """  - metric: {name}
    aggregation: mean
    higher_is_better: true
"""
CHOICE = """output_type: multiple_choice
doc_to_text: "{{bare}}\\nRecord:"
doc_to_choice: choices
doc_to_target: right
metric_list:
"""
RECORD = """output_type: generate_until
fewshot_split: test
num_fewshot: 2
doc_to_text: "{{question}}"
doc_to_target: answer
generation_kwargs:
  until: ["\\n\\n"]
  max_gen_toks: 96
  do_sample: false
metric_list:
  - metric: chrf
    aggregation: chrf
    higher_is_better: true
"""
GSM8K = """output_type: generate_until
fewshot_split: test
num_fewshot: 5
doc_to_text: "Question: {{question}}\\nAnswer:"
doc_to_target: "{{answer}}"
generation_kwargs:
  until: ["Question:", "</s>", "<|im_end|>"]
  max_gen_toks: 128
  do_sample: false
filter_list:
  - name: strict-match
    filter:
      - function: regex
        regex_pattern: "#### (\\\\-?[0-9\\\\.\\\\,]+)"
      - function: take_first
  - name: flexible-extract
    filter:
      - function: regex
        group_select: -1
        regex_pattern: "(-?[$0-9.,]{2,})|(-?[0-9]+)"
      - function: take_first
metric_list:
  - metric: exact_match
    aggregation: mean
    higher_is_better: true
    ignore_case: true
    ignore_punctuation: false
    regexes_to_ignore: [",", "\\\\$", "(?s).*#### ", "\\\\.$"]
"""


@dataclass(frozen=True)
class Compared:
    """One task, by both."""

    task: str
    rows: int
    weighed: int
    largest_nats: float
    same_argmax: bool
    answers: int
    same_answers: int
    metrics: dict[str, list[float]]
    """Metric or standard error -> [lm-eval's, Nexa's]."""
    same_metrics: bool

    @property
    def agree(self) -> bool:
        """Whether nothing differs that may not."""
        close = self.largest_nats <= CLOSE_NATS and self.same_argmax
        return close and self.same_answers == self.answers and self.same_metrics


def main() -> None:
    """Write the tasks, run both, compare; the exit code says whether they agree."""
    options = arguments()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        names = write_tasks(folder / "tasks", options)
        found = [compare(name, folder, options) for name in names]
    if options.json is not None:
        told = [{**asdict(each), "agree": each.agree} for each in found]
        options.json.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    print(table(found))
    sys.exit(0 if all(each.agree for each in found) else 1)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True, type=Path, help="a model folder")
    parser.add_argument("--limit", type=int, default=40, help="rows of each task")
    parser.add_argument("--gsm8k", type=Path, help="lines of `question` and `answer`")
    parser.add_argument("--engine", default="auto", help="Nexa's: auto, fused, transformers")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    return parser.parse_args()


# -- tasks ---------------------------------------------------------------------------------------


def write_tasks(folder: Path, options: argparse.Namespace) -> list[str]:
    """The tasks' files; their names."""
    folder.mkdir(parents=True)
    rows = [json.loads(line) for line in ROWS.read_text(encoding="utf-8").splitlines()]
    docs = [_doc(rows, at) for at in range(len(rows))]
    means = "".join(MEAN.format(name=name) for name in ("acc", "acc_norm"))
    exact = MEAN.format(name="exact_match")
    _write(folder, "nexa_choice", docs, CHOICE + means)
    _write(folder, "nexa_record", docs, RECORD + exact)
    names = ["nexa_choice", "nexa_record"]
    if options.gsm8k is not None:
        lines = options.gsm8k.read_text(encoding="utf-8").splitlines()
        _write(folder, "nexa_gsm8k", [json.loads(line) for line in lines], GSM8K)
        names.append("nexa_gsm8k")
    return names


def _doc(rows: Sequence[Mapping[str, Any]], at: int) -> dict[str, Any]:
    """A question, its record, and two other rows' records; the right one at each place in turn."""
    row, right = rows[at], at % 3
    others = [rows[(at + step) % len(rows)] for step in (7, 19)]
    choices = [json.dumps(other["target_answer"], ensure_ascii=False) for other in others]
    answer = json.dumps(row["target_answer"], ensure_ascii=False)
    choices.insert(right, answer)
    question = f"{row['context']}\n\n{row['prompt']}"
    return {
        "question": question,
        "bare": row["prompt"],
        "answer": answer,
        "choices": choices,
        "right": right,
    }


def _write(folder: Path, name: str, docs: Sequence[Mapping[str, Any]], task: str) -> None:
    file = folder / f"{name}.jsonl"
    lines = (json.dumps(doc, ensure_ascii=False) + "\n" for doc in docs)
    file.write_text("".join(lines), encoding="utf-8")
    head = HEAD.format(name=name, file=file)
    (folder / f"{name}.yaml").write_text(head + task, encoding="utf-8")


# -- both ----------------------------------------------------------------------------------------


def compare(name: str, folder: Path, options: argparse.Namespace) -> Compared:
    """One task by lm-eval and by Nexa."""
    theirs, results = by_lm_eval(name, folder, options)
    ours, told = by_nexa(name, folder, options)
    return compared(name, theirs, ours, results, told)


def by_lm_eval(
    name: str, folder: Path, options: argparse.Namespace
) -> tuple[dict[int, list[Any]], dict[str, Any]]:
    """Every row's responses, and the results, of lm-eval's own command."""
    out = folder / f"{name}-out"
    command = [
        *(str(Path(sys.executable).with_name("lm_eval")), "run", "--model", "hf"),
        *("--model_args", f"pretrained={options.model.resolve()},dtype=float32"),
        *("--tasks", name, "--include_path", str(folder / "tasks"), "--batch_size", "1"),
        *("--device", "cpu", "--limit", str(options.limit)),
        *("--output_path", str(out), "--log_samples"),
        *(("--apply_chat_template",) if name in TEMPLATED else ()),
    ]
    caches = {"HF_DATASETS_CACHE": str(folder / "datasets"), "HF_HUB_OFFLINE": "1"}
    environment = {**os.environ, **caches, "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"lm_eval failed:\n{done.stderr[-3000:]}")
    [kept] = out.rglob("results_*.json")
    [samples] = out.rglob(f"samples_{name}_*.jsonl")
    rows = {}
    for line in samples.read_text(encoding="utf-8").splitlines():
        sample = json.loads(line)
        rows[int(sample["doc_id"])] = [response[0] for response in sample["resps"]]
    return rows, json.loads(kept.read_bytes())["results"][name]


def by_nexa(
    name: str, folder: Path, options: argparse.Namespace
) -> tuple[dict[int, list[Any]], dict[str, Any]]:
    """The same of Nexa, out of its sealed artifacts."""
    from nexa.core.scoring import read_rows
    from nexa.core.tiers import Tiers
    from nexa.orchestrate.evaluate_harness import Harness, evaluate_harness

    project = folder / "project"
    project.mkdir(exist_ok=True)
    wanted = Harness(
        tasks=(name,),
        tasks_path=folder / "tasks",
        limit=options.limit,
        apply_chat_template=name in TEMPLATED,
        batch_size=1,
        dtype="float32",
        engine=options.engine,
    )
    [made] = evaluate_harness([str(options.model.resolve())], wanted, project)
    store = Tiers.of(project).store
    answers = store.by_digest(made.scores.body.answers_digest)
    rows = {
        int(row["id"].rpartition("/")[2]): row["responses"]
        for row in read_rows(store.path(answers, "answers.jsonl").read_bytes())
    }
    told = json.loads(store.path(made.scores, "lm_eval.json").read_bytes())["results"][name]
    means = {metric: found.mean for metric, found in made.scores.body.metrics.items()}
    for metric, mean in means.items():
        key = metric if "," in metric else f"{metric},none"
        if round(told[key], DIGITS) != mean:
            sys.exit(
                f"{metric} of the sealed scores is {mean}, lm-eval's evaluation says {told[key]}"
            )
    return rows, told


def compared(
    name: str,
    theirs: Mapping[int, Sequence[Any]],
    ours: Mapping[int, Sequence[Any]],
    results: Mapping[str, Any],
    told: Mapping[str, Any],
) -> Compared:
    """What differs."""
    if set(theirs) != set(ours):
        sys.exit(f"{name}: not the same rows, {len(theirs)} and {len(ours)}")
    largest, same_argmax, weighed, answers, same = 0.0, True, 0, 0, 0
    for row, said in theirs.items():
        for a, b in zip(said, ours[row], strict=True):
            if isinstance(b, str):
                answers, same = answers + 1, same + (a == b)
                continue
            weighed += 1
            largest = max(largest, abs(float(a[0]) - b[0]))
            same_argmax = same_argmax and str(a[1]) == str(b[1])
    numbers = {
        key: [value, told.get(key)]
        for key, value in sorted(results.items())
        if "," in key and isinstance(value, float)
    }
    return Compared(
        task=name,
        rows=len(theirs),
        weighed=weighed,
        largest_nats=largest,
        same_argmax=same_argmax,
        answers=answers,
        same_answers=same,
        metrics=numbers,
        same_metrics=all(a == b for a, b in numbers.values()),
    )


def table(found: Sequence[Compared]) -> str:
    """A row a metric."""
    lines = [
        "| task | rows | likelihoods | largest difference, nats | answers alike | metric "
        "| lm-eval | Nexa |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for each in found:
        for metric, (theirs, ours) in each.metrics.items():
            lines.append(
                f"| {each.task} | {each.rows} | {each.weighed} | {each.largest_nats:.1e} "
                f"| {each.same_answers} of {each.answers} | {metric} | {theirs:.9f} | {ours:.9f} |"
            )
    alike = all(each.agree for each in found)
    return "\n".join([*lines, "", "they agree" if alike else "THEY DO NOT AGREE"])


if __name__ == "__main__":
    main()
