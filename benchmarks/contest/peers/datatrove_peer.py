"""datatrove's MinHash pipeline, its four stages one after the other, two processes in each.

    python datatrove_peer.py ROWS_FOLDER OUT_FOLDER english|blanks

Settings are its defaults: 5 words a shingle, 14 buckets of 8 hashes, 64 bits. Words are what its
own tokenizer for English (spaCy) takes for them, or for `blanks` what stands between blanks, which
is faster and finds the same here.
"""

from __future__ import annotations

import sys
from pathlib import Path

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.dedup import (
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupFilter,
    MinhashDedupSignature,
)
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter
from datatrove.utils.typeshelper import Languages
from datatrove.utils.word_tokenizers import WordTokenizer

WORKERS = 2


class Blanks(WordTokenizer):
    """Words are what stands between blanks."""

    def word_tokenize(self, text: str) -> list[str]:
        """The words."""
        return text.split()

    def sent_tokenize(self, text: str) -> list[str]:
        """Not asked for."""
        return [text]

    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        """Not asked for."""
        return [(0, len(text))]


def document(
    reader: PipelineStep, row: dict[str, str], path: str, place: int | str
) -> dict[str, str]:
    """A row as datatrove wants it."""
    return {"text": f"{row['prompt']}\n{row['completion']}", "id": row["id"]}


def main() -> None:
    """Read `ROWS_FOLDER/*.jsonl`, write `OUT_FOLDER/kept`."""
    rows, out = map(Path, sys.argv[1:3])
    words = Blanks() if sys.argv[3] == "blanks" else Languages.english
    config = MinhashConfig()

    def run(stage: str, *steps: PipelineStep, tasks: int = WORKERS) -> None:
        LocalPipelineExecutor(
            list(steps), tasks=tasks, workers=WORKERS, logging_dir=str(out / "logs" / stage)
        ).run()

    def reader() -> JsonlReader:
        return JsonlReader(str(rows), adapter=document, glob_pattern="*.jsonl")

    signatures, buckets, removed = (str(out / name) for name in ("sigs", "buckets", "removed"))
    run("1", reader(), MinhashDedupSignature(signatures, config, language=words))
    pairs = MinhashDedupBuckets(signatures, buckets, config=config)
    run("2", pairs, tasks=config.num_buckets)
    run("3", MinhashDedupCluster(buckets, removed, config=config), tasks=1)
    kept = JsonlWriter(str(out / "kept"), compression=None)
    run("4", reader(), MinhashDedupFilter(removed), kept)


if __name__ == "__main__":
    main()
