"""Make the files of the materials example: notes on chemical elements and the records they hold.

    pip install mendeleev==1.3.0
    python examples/materials/build.py            # writes train.jsonl, eval.jsonl, pool.jsonl
    python examples/materials/build.py --check    # makes them again and compares with the disk

Read `domains.py` for what is said, `facts.py` for where the facts come from, `checks.py` for what
must hold. The bytes are the same on every run: a row's chances come from its file, its element
and its number, never from the rows before it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random

from checks import BrokenExample, alike, check_rows
from domains import DOMAINS, Domain, Field, Value
from facts import MendeleevMissing, database, read_facts

FOLDER = Path(__file__).parent
SEED = "materials-1"
ROWS = {"train": 400, "eval": 64, "pool": 120}

Row = dict[str, object]
Facts = Mapping[str, Value]


def main(arguments: Sequence[str] | None = None) -> int:
    """Build and write the files, or with `--check` compare them with those on disk."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="compare with the disk, write nothing")
    only_check = parser.parse_args(arguments).check
    try:
        texts = {name: as_jsonl(rows) for name, rows in build(read_facts(database())).items()}
        for name, text in texts.items():
            compare(FOLDER / f"{name}.jsonl", text) if only_check else write(name, text)
    except (BrokenExample, MendeleevMissing) as error:
        print(f"materials: {error}", file=sys.stderr)
        return 1
    return 0


def build(facts: Mapping[str, Facts]) -> dict[str, list[Row]]:
    """All rows by file name, shuffled within each file and checked.

    Raises:
        BrokenExample: a property that `checks.py` lists does not hold.
    """
    files: dict[str, list[Row]] = {name: [] for name in ROWS}
    for place, domain in enumerate(DOMAINS):
        for name, symbols in split(domain, facts).items():
            count = share(ROWS[name], len(DOMAINS), place)
            for number, symbol in enumerate(symbols):
                rows = share(count, len(symbols), number)
                files[name] += element_rows(domain, symbol, facts[symbol], name, rows)
    for name, rows_of_file in files.items():
        Random(f"{SEED}/{name}").shuffle(rows_of_file)
    check_rows(files, ROWS)
    return files


def split(domain: Domain, facts: Mapping[str, Facts]) -> dict[str, list[str]]:
    """Symbols of the domain's elements by file, in the order of the symbols' digests."""
    symbols = domain.elements.split()
    for symbol in symbols:
        lacking = [field.fact for field in domain.fields if field.fact not in facts[symbol]]
        if lacking:
            raise BrokenExample(f"{symbol} in {domain.name} has no {', '.join(lacking)}")
    order = sorted(symbols, key=lambda s: hashlib.sha256(f"{SEED}/{s}".encode()).digest())
    pool_end = domain.eval_elements + domain.pool_elements
    return {
        "eval": order[: domain.eval_elements],
        "pool": order[domain.eval_elements : pool_end],
        "train": order[pool_end:],
    }


def share(total: int, parts: int, place: int) -> int:
    """Size of one of `parts` nearly equal parts of `total`; earlier places take the remainder."""
    return total // parts + (place < total % parts)


def element_rows(domain: Domain, symbol: str, facts: Facts, file: str, count: int) -> list[Row]:
    """`count` rows of one element, no two of them near-duplicates of each other."""
    rows: list[Row] = []
    for draw in range(100 * count):
        row = make_row(domain, symbol, facts, Random(f"{SEED}/{file}/{symbol}/{draw}"))
        if not any(alike(row, earlier) for earlier in rows):
            rows.append(row)
        if len(rows) == count:
            return rows
    raise BrokenExample(f"{symbol}: only {len(rows)} of {count} notes differ enough")


def make_row(domain: Domain, symbol: str, facts: Facts, random: Random) -> Row:
    """One row in the schema of the README."""
    key, subject = domain.subject
    record = {key: facts[subject]} | {field.key: facts[field.fact] for field in domain.fields}
    return {
        "context": make_note(domain, facts, random),
        "prompt": random.choice(domain.prompts),
        "target_answer": record,
        "domain": domain.name,
        "source": "synthetic",
        "quality_score": 1.0,
        "group": symbol,
    }


def make_note(domain: Domain, facts: Facts, random: Random) -> str:
    """An opening, then a sentence for each field, in any order, and an aside among them."""
    opening = random.choice(domain.openings).format(**facts, n=random.randint(2, 99))
    sentences = [state(field, facts[field.fact], random) for field in domain.fields]
    random.shuffle(sentences)
    aside = random.choice(domain.asides).format(**chance_numbers(random))
    # Never last: an aside and the prompt after it would be a long run of words that recurs.
    sentences.insert(random.randrange(len(sentences)), aside)
    return domain.separator.join([opening, *sentences])


def state(field: Field, value: Value, random: Random) -> str:
    """One of the field's sentences with the value in it."""
    sentence = random.choice(field.sentences)
    blanks = {"v": value} | chance_numbers(random)
    if field.other_unit is not None and not isinstance(value, str):
        blanks["alt"] = field.other_unit(value)
    return sentence.format(**blanks)


def chance_numbers(random: Random) -> dict[str, Value]:
    """Numbers for the blanks of a sentence, of the same look as the facts."""
    return {
        "digit": str(random.randint(1, 9)),
        "ones": f"{random.uniform(1, 9):.2f}",
        "tens": str(random.randint(11, 99)),
        "hundreds": str(random.randint(100, 400)),
        "thousands": str(random.randint(1000, 9000)),
        "year": str(random.randint(1790, 1950)),
    }


def as_jsonl(rows: Sequence[Row]) -> str:
    """One row a line, keys in the order of the schema."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def compare(path: Path, text: str) -> None:
    """Refuse a file on disk that is not, byte for byte, what is built now."""
    if not path.is_file() or path.read_bytes() != text.encode():
        raise BrokenExample(f"{path.name} is not what build.py makes: run it without --check")
    print(f"{path.name}: as built")


def write(name: str, text: str) -> None:
    """Write aside and rename, so that a stopped run leaves no half file."""
    path = FOLDER / f"{name}.jsonl"
    aside = path.with_suffix(".jsonl.part")
    aside.write_bytes(text.encode())
    aside.replace(path)
    print(f"{path.name}: {text.count(chr(10))} rows, {len(text.encode())} bytes")


if __name__ == "__main__":
    sys.exit(main())
