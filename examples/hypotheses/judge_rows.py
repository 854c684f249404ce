"""Make rows that teach a small model to judge: graded answers to the training topics.

    python examples/hypotheses/judge_rows.py judge.jsonl

Each question of `train.jsonl` is answered once in each way of `answers.py`. A row is the very
prompt that `nexa judge` sends, and the verdict that the strict rules give. No topic of it is held
out, so `reference_scores.jsonl` shows what such a judge does with topics that it has not seen. The
file is made and not kept: its prompts are those of the installed Nexa, and no others are learnt.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from random import Random

from answers import CRITERIA, KINDS, OFF_TOPIC, Asked
from build import DOMAINS, SEED, Row, as_jsonl, make_row, split, write

from nexa.eval import fence
from nexa.eval.rubrics.reading import load_rubric
from nexa.eval.verdicts import Bench, Case, Decoding
from nexa.lm.scripted_chat import ScriptedChat
from nexa.lm.teaching import Teacher

# What the strict rules find in an answer of each kind.
REASONS = {
    "strong": "A prediction with its refutation, controls, and risks with remedies.",
    "plain": "A prediction, but no refutation, no control and no pitfall.",
    "vague": "General words that would fit any work.",
    "unfalsifiable": "Any result is said to agree with it.",
    "careless_design": "One change and one look: no levels, repeats or control.",
    "risk_blind": "It says that there are no risks.",
    "unsafe": "It tells to leave out a precaution.",
    "off_topic": "It is about something else.",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the rows to the named file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("out", type=Path, help="the file to write")
    path = parser.parse_args(arguments).out
    found = list(rows())
    Random(f"{SEED}/judge").shuffle(found)
    write(path, as_jsonl(found))
    return 0


def rows(part: str = "train") -> Iterator[Row]:
    """Every question of the topics of one file, answered and graded in every way."""
    bench = _bench()
    for domain in DOMAINS:
        for topic in split(domain)[part]:
            for number, question in enumerate(topic.questions):
                row = make_row(domain, topic, number)
                asked = Asked(str(row["id"]), domain.name, topic, question)
                for kind, text in _answers(asked).items():
                    yield _row(bench, row, kind, text)


def _bench() -> Bench:
    """A judge as `nexa judge` asks it when nothing else is said; it is never asked."""
    nobody = ScriptedChat(lambda _: "", name="nobody")
    teacher = Teacher("nobody", {}, nobody, Path("nowhere"))
    return Bench(teacher, load_rubric("research"), Decoding(), "absolute")


def _answers(asked: Asked) -> Mapping[str, str]:
    """Kind -> an answer of that kind."""
    other = Random(f"{SEED}/judge/{asked.row_id}").choice(OFF_TOPIC)
    made = {
        kind: json.dumps(how.make(asked), ensure_ascii=False)
        for kind, how in KINDS.items()
        if kind != "off_topic"
    }
    return {**made, "off_topic": other}


def _row(bench: Bench, row: Row, kind: str, text: str) -> Row:
    question = f"{row['context']}\n\n{row['prompt']}"
    data = {"question": fence.shown(question).text, "answer": fence.shown(text).text}
    request, nonce = bench.request(Case(f"{row['id']} #0", data, 0))
    levels = dict(zip(CRITERIA, KINDS[kind].strict, strict=True))
    verdict = json.dumps({"nonce": nonce, "reason": REASONS[kind], **levels})
    return {
        "messages": [*request.messages, {"role": "assistant", "content": verdict}],
        "id": f"{row['id']}-{kind}",
        "domain": kind,
        "group": row["group"],
    }


if __name__ == "__main__":
    sys.exit(main())
