"""Make the files of the hypotheses example: research questions, proposals, graded answers.

    python examples/hypotheses/build.py            # writes the six files
    python examples/hypotheses/build.py --check    # makes them again and compares with the disk

Read `topics_*.py` for what is said, `answers.py` for how answers of known quality are made and
graded, `checks.py` for what must hold (it looks for near-copies and hazards with Nexa's own code,
so Nexa has to be installed). The bytes are the same on every run.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random

from answers import Asked, labels_of, reference_answers
from checks import BrokenExample, check_answers, check_rows
from parts import Domain, Question, Topic
from topics_biology import BIOLOGY
from topics_chemistry import CHEMISTRY
from topics_environment import ENVIRONMENT
from topics_instruments import INSTRUMENTS
from topics_materials import MATERIALS
from topics_plasma import PLASMA

FOLDER = Path(__file__).parent
SEED = "hypotheses-1"
DOMAINS = (MATERIALS, CHEMISTRY, PLASMA, BIOLOGY, INSTRUMENTS, ENVIRONMENT)
TOPICS = {"train": 2, "eval": 2, "pool": 1}  # of each domain
PROMPTS = (
    "Propose hypothesis, methodology and risks, as JSON.",
    "Answer as JSON: hypothesis, methodology, risks.",
    "As JSON: your hypothesis, its methodology, the risks.",
    "Give hypothesis, methodology and risks as JSON.",
)

Row = dict[str, object]


def main(arguments: Sequence[str] | None = None) -> int:
    """Build and write the files, or with `--check` compare them with those on disk."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="compare with the disk, write nothing")
    only_check = parser.parse_args(arguments).check
    try:
        for name, text in texts(build()).items():
            compare(FOLDER / name, text) if only_check else write(FOLDER / name, text)
    except BrokenExample as error:
        print(f"hypotheses: {error}", file=sys.stderr)
        return 1
    return 0


def build() -> dict[str, list[Row]]:
    """All files by name, checked.

    Raises:
        BrokenExample: a property that `checks.py` lists does not hold.
    """
    files: dict[str, list[Row]] = {name: [] for name in TOPICS}
    asked: list[Asked] = []
    for domain in DOMAINS:
        for name, topics in split(domain).items():
            for topic in topics:
                rows = [make_row(domain, topic, number) for number in range(len(topic.questions))]
                files[name] += rows
                if name == "eval":
                    asked += [
                        Asked(str(row["id"]), domain.name, topic, question)
                        for row, question in zip(rows, topic.questions, strict=True)
                    ]
    for name, rows_of_file in files.items():
        Random(f"{SEED}/{name}").shuffle(rows_of_file)
    check_rows(files)
    answers = reference_answers(asked, SEED)
    labels = labels_of(answers)
    check_answers(files["eval"], answers, labels)
    return {**files, "reference_answers": answers, "reference_scores": labels}


def texts(files: Mapping[str, Sequence[Row]]) -> dict[str, str]:
    """File name -> what it holds; with a model that answers as the reference answers do."""
    asked = {row["id"]: f"{row['context']}\n\n{row['prompt']}" for row in files["eval"]}
    model = {str(asked[row["id"]]): row["text"] for row in files["reference_answers"]}
    found = {f"{name}.jsonl": as_jsonl(rows) for name, rows in files.items()}
    told = json.dumps(model, ensure_ascii=False, indent=0, sort_keys=True)
    return {**found, "reference_model.json": f"{told}\n"}


def split(domain: Domain) -> dict[str, list[Topic]]:
    """The domain's topics by file, in the order of their keys' digests."""
    order = sorted(
        domain.topics, key=lambda topic: hashlib.sha256(f"{SEED}/{topic.key}".encode()).digest()
    )
    found, first = {}, 0
    for name, count in TOPICS.items():
        found[name] = order[first : first + count]
        first += count
    if first != len(order):
        raise BrokenExample(f"{domain.name} has {len(order)} topics, {first} have a file")
    return found


def make_row(domain: Domain, topic: Topic, number: int) -> Row:
    """One row in the schema of the README."""
    question = topic.questions[number]
    row_id = f"{topic.key}-{number + 1}"
    return {
        "id": row_id,
        "context": f"{topic.setting} {question.seen}",
        "prompt": Random(f"{SEED}/{row_id}").choice(PROMPTS),
        "target_answer": proposal(topic, question),
        "domain": domain.name,
        "source": "synthetic",
        "quality_score": 1.0,
        "group": topic.key,
    }


def proposal(topic: Topic, question: Question) -> Mapping[str, str]:
    """The answer that is wanted."""
    return {
        "hypothesis": f"{question.claim}, because {question.why}. {question.against}",
        "methodology": f"{question.vary}. {topic.measure}; {topic.control}.",
        "risks": f"{question.trap} {topic.hazard}",
    }


def as_jsonl(rows: Sequence[Row]) -> str:
    """One row a line, keys in the order of the schema."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def compare(path: Path, text: str) -> None:
    """Refuse a file on disk that is not, byte for byte, what is built now."""
    if not path.is_file() or path.read_bytes() != text.encode():
        raise BrokenExample(f"{path.name} is not what build.py makes: run it without --check")
    print(f"{path.name}: as built")


def write(path: Path, text: str) -> None:
    """Write aside and rename, so that a stopped run leaves no half file."""
    aside = path.with_name(f"{path.name}.part")
    aside.write_bytes(text.encode())
    aside.replace(path)
    print(f"{path.name}: {text.count(chr(10))} lines, {len(text.encode())} bytes")


if __name__ == "__main__":
    sys.exit(main())
