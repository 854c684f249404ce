"""GGUF files under llama.cpp against transformers in float32: same tokens, and how far apart.

    python benchmarks/gguf_parity.py --model FOLDER [--quantizations f32 f16 q8_0 ...] [--json]

Every quantisation is written from the folder by Nexa's own writer and run by llama.cpp (the extra
`gguf`). For each of the first --prompts rows, told as a chat, both answer greedily with exactly
--new-tokens tokens. An answer is the same if all of its ids are; where it is not, the margin is
what lies between the reference's two likeliest tokens (as log-probabilities) at the first that
differs: below 0.05 either is as good. KL(transformers || llama.cpp) is the mean in nats over
--kl-positions of the reference's own answers, over all of the vocabulary.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from decode import DEFAULT_ROWS, question

# A margin under which a divergence says nothing: both tokens are as likely.
CLOSE = 0.05
Ids = list[int]


def main() -> None:
    """Write, run and compare each quantisation; print a table, or JSON."""
    options = arguments()
    reference = Reference(options)
    results = {name: compare(name, reference, options) for name in options.quantizations}
    if options.json:
        print(json.dumps(results, indent=2))
    else:
        print(table(results, options))


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True, help="a model folder, or an alias")
    parser.add_argument("--rows", type=Path, default=DEFAULT_ROWS, help="as in decode.py")
    parser.add_argument("--prompts", type=int, default=20)
    parser.add_argument("--new-tokens", type=int, default=32)
    parser.add_argument("--kl-positions", type=int, default=40)
    parser.add_argument("--quantizations", nargs="+", default=["f32", "f16"])
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


class Reference:
    """The model under transformers in float32: its answers, and its distributions."""

    def __init__(self, options: argparse.Namespace) -> None:
        from nexa.lm.chat import ChatTemplate
        from nexa.lm.load import load
        from nexa.lm.resolve import resolve

        self.files = resolve(options.model)
        self.loaded = load(self.files, dtype="float32")
        template = ChatTemplate(self.loaded.tokenizer)
        lines = options.rows.read_text(encoding="utf-8").splitlines()[: options.prompts]
        self.prompts = [template.prompt(question(json.loads(line))) for line in lines]
        self.answers = [self.answer(prompt, options.new_tokens) for prompt in self.prompts]

    def answer(self, prompt: Ids, new_tokens: int) -> Ids:
        """Greedily, by transformers' own `generate`, one prompt at a time."""
        import torch

        ids = torch.tensor([prompt])
        model: Any = self.loaded.model
        made = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=new_tokens,
            min_new_tokens=new_tokens,
            eos_token_id=None,
            do_sample=False,
        )
        found: Ids = made[0, len(prompt) :].tolist()
        return found

    def log_probs(self, ids: Ids) -> Any:
        """After each token of a text, `[T, V]`."""
        from nexa.lm.score import logits

        return logits(self.loaded, ids).log_softmax(-1)


def compare(name: str, reference: Reference, options: argparse.Namespace) -> dict[str, Any]:
    """One quantisation beside the reference."""
    from nexa.lm.llama_cpp import LlamaCpp
    from nexa.weights.gguf.write import write_gguf

    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / f"{name}.gguf"
        start = time.perf_counter()
        written = write_gguf(reference.files.folder, path, quantization=name, name="parity")
        write_s = time.perf_counter() - start
        longest = max(map(len, reference.prompts)) + options.new_tokens
        with LlamaCpp.open(path, positions=longest) as runtime:
            made = runtime.generate(
                reference.prompts, max_new_tokens=options.new_tokens, stop_ids=()
            )
            kl = divergence(runtime, reference, options.kl_positions)
    margins = [
        margin(reference, prompt, wanted, found.ids)
        for prompt, wanted, found in zip(reference.prompts, reference.answers, made, strict=True)
        if found.ids != wanted
    ]
    return {
        "prompts": len(made),
        "same": len(made) - len(margins),
        "margins": [round(value, 4) for value in margins],
        "same_or_close": len(made) - sum(value >= CLOSE for value in margins),
        "kl_nats": kl,
        "size_mb": round(written.size_bytes / 1e6, 1),
        "fallbacks": len(written.fallbacks),
        "write_s": round(write_s, 2),
    }


def margin(reference: Reference, prompt: Ids, wanted: Ids, found: Sequence[int]) -> float:
    """Between the reference's two likeliest tokens where another answer leaves its own."""
    at = next(i for i, (a, b) in enumerate(zip(wanted, found, strict=True)) if a != b)
    first, second = reference.log_probs(prompt + wanted[:at])[-1].topk(2).values.tolist()
    return float(first - second)


def divergence(runtime: Any, reference: Reference, positions: int) -> float:
    """Mean KL(transformers || llama.cpp) in nats, at as many positions of each answer."""
    each = max(1, positions // len(reference.prompts))
    told = []
    for prompt, answer in zip(reference.prompts, reference.answers, strict=True):
        ids = (prompt + answer)[: len(prompt) - 1 + each]
        wanted = reference.log_probs(ids)[len(prompt) - 1 :]
        found = runtime.log_probs(ids, start=len(prompt) - 1)
        told.append((wanted.exp() * (wanted - found)).sum(-1))
    return float(sum(kl.double().sum() for kl in told) / sum(map(len, told)))


def table(results: dict[str, dict[str, Any]], options: argparse.Namespace) -> str:
    """A row a quantisation."""
    lines = [
        f"{options.prompts} prompts of {options.rows.name}, {options.new_tokens} tokens each",
        "",
        "| quantisation | MB | same answers | largest margin | KL, nats | written in, s |",
        "|---|---|---|---|---|---|",
    ]
    for name, told in results.items():
        margins = f"{max(told['margins']):.3f}" if told["margins"] else "-"
        lines.append(
            f"| {name} | {told['size_mb']:.0f} | {told['same']} of {told['prompts']} "
            f"| {margins} | {told['kl_nats']:.2e} | {told['write_s']:.1f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
