"""Training speed: Nexa's generic executor against transformers.Trainer + PEFT, both in bfloat16.

    python benchmarks/train_throughput.py --model FOLDER [--rows FILE.jsonl] [--steps 15] [--json]

One piece of work for both: the same token ids and labels, in the same order, the same LoRA (rank
16, alpha 32, every linear layer but the head), the same rows an optimiser step, learning rate and
optimiser. The two are run in turn, A B A B, each in a process of its own, so that a busy machine
slows both. The peer is run as fast as it goes: bfloat16 base, rows padded only to the longest of
its micro-batch, no gradient checkpointing, and the micro-batch that was its best (--peer-batch 4;
of 2, 4, 8 and 16 on SmolLM2-135M and two cores 2 and 4 are equal, 8 and 16 slower and larger). The
first step of each process is left out of the rates; tokens are those that are not padding. The
best step tells what the machine gives when nothing else runs; on a busy one the medians are low.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
DEFAULT_ROWS = HERE.parent / "examples" / "materials" / "train.jsonl"
IGNORED = -100


def main() -> None:
    """Run the pairs and print, or write as JSON, what was measured."""
    options = arguments()
    if options.side:
        measure(options)
        return
    rows = tokenise(options)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder) / "rows.json"
        work.write_text(json.dumps(rows))
        runs: dict[str, list[dict[str, Any]]] = {"nexa": [], "peer": []}
        for pair in range(options.pairs):
            for side in ("nexa", "peer"):
                runs[side].append(run_side(side, work, Path(folder) / "out.json", options))
                report(side, pair, runs[side][-1], quiet=options.json)
    summary = summarise(runs, rows, options)
    print(json.dumps(summary, indent=2) if options.json else table(summary))


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True, help="a model folder")
    parser.add_argument("--rows", type=Path, default=DEFAULT_ROWS, help="JSONL")
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--pairs", type=int, default=2)
    parser.add_argument("--batch", type=int, default=16, help="rows an optimiser step")
    parser.add_argument("--peer-batch", type=int, default=4, help="rows the peer pads together")
    parser.add_argument("--max-length", type=int, default=512)
    parser.add_argument("--lr", type=float, default=2e-4)
    parser.add_argument("--micro-tokens", type=int, default=4096)
    parser.add_argument("--precision", choices=["bfloat16", "float32"], default="bfloat16")
    parser.add_argument("--json", action="store_true")
    for inner in ("--side", "--work", "--out"):
        parser.add_argument(inner, help=argparse.SUPPRESS)
    return parser.parse_args()


def tokenise(options: argparse.Namespace) -> list[dict[str, list[int]]]:
    """As many rows as the steps need, as ids and labels, in one order for both sides."""
    from transformers import AutoTokenizer

    from nexa.lm.chat import ChatTemplate

    chat = ChatTemplate(AutoTokenizer.from_pretrained(options.model))
    lines = options.rows.read_text(encoding="utf-8").splitlines()
    rows = []
    for line in islice(cycle(lines), options.steps * options.batch):
        rendered = chat.render(messages(json.loads(line)))
        ids, trained = rendered.ids[: options.max_length], rendered.trained[: options.max_length]
        labels = [i if mark else IGNORED for i, mark in zip(ids, trained, strict=True)]
        rows.append({"input_ids": ids, "labels": labels})
    return rows


def messages(row: dict[str, Any]) -> list[dict[str, str]]:
    """A row of the materials example or of GSM8K as a conversation."""
    if "question" in row:
        question, answer = row["question"], row["answer"]
    else:
        question = "\n\n".join(filter(None, (row.get("context"), row["prompt"])))
        answer = row["target_answer"]
    if not isinstance(answer, str):
        answer = json.dumps(answer, ensure_ascii=False)
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def run_side(side: str, work: Path, out: Path, options: argparse.Namespace) -> dict[str, Any]:
    """One measurement in a process of its own."""
    passed = {"model", "steps", "batch", "peer_batch", "lr", "micro_tokens", "precision"}
    command = [sys.executable, __file__, "--side", side, "--work", str(work), "--out", str(out)]
    for name in sorted(passed):
        command += [f"--{name.replace('_', '-')}", str(getattr(options, name))]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    log = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if log.returncode:
        sys.exit(f"{side} failed:\n{log.stdout[-2000:]}{log.stderr[-4000:]}")
    result: dict[str, Any] = json.loads(out.read_text())
    return result


# -- Inside one process --------------------------------------------------------------------------


def measure(options: argparse.Namespace) -> None:
    """Train on the work with one side and write down each step."""
    rows = json.loads(Path(options.work).read_text())
    steps = nexa_steps(rows, options) if options.side == "nexa" else peer_steps(rows, options)
    result = {
        "steps": steps,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
    }
    Path(options.out).write_text(json.dumps(result))


def since_start() -> float:
    """Seconds since this process began."""
    import psutil

    return time.time() - psutil.Process().create_time()


def nexa_steps(
    rows: list[dict[str, list[int]]], options: argparse.Namespace
) -> list[dict[str, Any]]:
    """The product's own loop and executor."""
    from nexa.core.allocator import keep_pages

    keep_pages()
    import torch
    from transformers import AutoModelForCausalLM

    from nexa.lm.adapters import LoraSpec, attach
    from nexa.train import batches, loop, optim
    from nexa.train.executor import generic
    from nexa.train.spec import OptimizerSpec, SchedulerSpec

    model = AutoModelForCausalLM.from_pretrained(
        options.model, dtype=getattr(torch, options.precision)
    )
    tokens = [
        batches.TokenRow(f"{i}", row["input_ids"], [label != IGNORED for label in row["labels"]])
        for i, row in enumerate(rows)
    ]
    lora = attach(model, LoraSpec(rank=16, alpha=32), seed=0)
    spec = OptimizerSpec(lr=options.lr)
    plan = (in_order(tokens, step, options) for step in range(options.steps))
    done = []
    with generic(model, lora, tokens) as executor:
        optimizer = optim.optimizer(spec, lora.parameters)
        schedule = optim.schedule(
            SchedulerSpec(name="constant"), lr=options.lr, total_steps=options.steps
        )
        begin = time.perf_counter()
        first = since_start()
        for record in loop.train(
            executor, plan, optimizer, schedule, max_grad_norm=spec.max_grad_norm, seed=0
        ):
            now = time.perf_counter()
            done.append(
                {
                    "seconds": now - begin,
                    "tokens": record.tokens,
                    "label_tokens": record.label_tokens,
                    "loss": record.loss,
                    "start_to_first_step_s": first,
                }
            )
            begin = now
    return done


def in_order(rows: list[Any], index: int, options: argparse.Namespace) -> Any:
    """The step that holds the next rows of the file, as the peer's sequential sampler has it."""
    from nexa.train import batches

    chosen = rows[index * options.batch : (index + 1) * options.batch]
    parts = batches.split(chosen, micro_tokens=options.micro_tokens)
    return batches.Step(index, 0, tuple(batches.lay(part) for part in parts), len(chosen))


def peer_steps(
    rows: list[dict[str, list[int]]], options: argparse.Namespace
) -> list[dict[str, Any]]:
    """transformers.Trainer with a PEFT adapter, dynamic padding, answer-only labels."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import (
        AutoModelForCausalLM,
        AutoTokenizer,
        DataCollatorForSeq2Seq,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    done: list[dict[str, Any]] = []

    class Meter(TrainerCallback):
        begin, first = 0.0, 0.0

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.first = self.first or since_start()
            self.begin = time.perf_counter()

        def on_step_end(self, args: Any, state: Any, control: Any, **__: Any) -> None:
            chosen = rows[len(done) * options.batch : (len(done) + 1) * options.batch]
            done.append(
                {
                    "seconds": time.perf_counter() - self.begin,
                    "tokens": sum(len(row["input_ids"]) for row in chosen),
                    "label_tokens": sum(x != IGNORED for row in chosen for x in row["labels"][1:]),
                    "start_to_first_step_s": self.first,
                }
            )

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **__: Any) -> None:
            if logs and "loss" in logs:
                done[-1]["loss"] = float(logs["loss"])

    class InOrder(Trainer):
        def _get_train_sampler(self, *_: Any, **__: Any) -> Any:
            return torch.utils.data.SequentialSampler(rows)

    tokenizer = AutoTokenizer.from_pretrained(options.model)
    model = AutoModelForCausalLM.from_pretrained(
        options.model, dtype=getattr(torch, options.precision)
    )
    model = get_peft_model(
        model,
        LoraConfig(
            r=16,
            lora_alpha=32,
            lora_dropout=0.0,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        ),
    )
    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingArguments(
            output_dir=folder,
            max_steps=options.steps,
            per_device_train_batch_size=options.peer_batch,
            gradient_accumulation_steps=options.batch // options.peer_batch,
            learning_rate=options.lr,
            lr_scheduler_type="constant",
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
        )
        InOrder(
            model=model,
            args=settings,
            train_dataset=rows,  # type: ignore[arg-type]
            data_collator=DataCollatorForSeq2Seq(tokenizer, padding=True),
            callbacks=[Meter()],
        ).train()
    return done


# -- Figures -------------------------------------------------------------------------------------


MEASURES = (
    "tokens_per_s",
    "best_tokens_per_s",
    "label_tokens_per_s",
    "step_s",
    "peak_rss_mb",
    "start_to_first_step_s",
)


def rates(run: dict[str, Any]) -> dict[str, float]:
    """A run's medians over its steps but the first."""
    body = run["steps"][1:] or run["steps"]
    tokens_per_s = [step["tokens"] / step["seconds"] for step in body]
    labels_per_s = [step["label_tokens"] / step["seconds"] for step in body]
    values = (
        statistics.median(tokens_per_s),
        max(tokens_per_s),
        statistics.median(labels_per_s),
        statistics.median(step["seconds"] for step in body),
        run["peak_rss_mb"],
        run["steps"][0]["start_to_first_step_s"],
    )
    return dict(zip(MEASURES, values, strict=True))


def report(side: str, pair: int, run: dict[str, Any], *, quiet: bool) -> None:
    """One line when a run has ended."""
    if not quiet:
        shown = ", ".join(f"{name} {value:.4g}" for name, value in rates(run).items())
        print(f"pair {pair + 1} {side}: {shown}", flush=True)


def summarise(
    runs: dict[str, list[dict[str, Any]]], rows: list[Any], options: argparse.Namespace
) -> dict[str, Any]:
    """Medians over the pairs, and the ratio within each pair."""
    measured = {side: [rates(run) for run in of_side] for side, of_side in runs.items()}
    ratios = [
        a["tokens_per_s"] / b["tokens_per_s"]
        for a, b in zip(measured["nexa"], measured["peer"], strict=True)
    ]
    return {
        "work": {
            "rows": len(rows),
            "rows_a_step": options.batch,
            "peer_micro_batch": options.peer_batch,
            "steps": options.steps,
            "pairs": options.pairs,
            "precision": options.precision,
            "tokens_a_row": statistics.mean(len(row["input_ids"]) for row in rows),
        },
        **{
            side: {
                **{name: statistics.median(r[name] for r in of_side) for name in of_side[0]},
                "losses": [round(s["loss"], 4) for s in runs[side][0]["steps"]],
            }
            for side, of_side in measured.items()
        },
        "speed_ratios": [round(r, 3) for r in ratios],
        "speed_ratio": round(statistics.median(ratios), 3),
        "best_step_ratio": round(
            max(r["best_tokens_per_s"] for r in measured["nexa"])
            / max(r["best_tokens_per_s"] for r in measured["peer"]),
            3,
        ),
    }


def table(summary: dict[str, Any]) -> str:
    """The summary for a reader."""
    nexa, peer = summary["nexa"], summary["peer"]
    lines = [f"{'':24}{'Nexa generic':>14}{'Trainer + PEFT':>16}"]
    lines += [f"{name:24}{nexa[name]:>14.1f}{peer[name]:>16.1f}" for name in MEASURES]
    for step, losses in enumerate(zip(nexa["losses"], peer["losses"], strict=True)):
        lines.append(f"{f'loss at step {step + 1}':24}{losses[0]:>14.4f}{losses[1]:>16.4f}")
    lines.append(f"speed ratio {summary['speed_ratio']} (pairs: {summary['speed_ratios']})")
    lines.append(f"ratio of the best steps {summary['best_step_ratio']}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
