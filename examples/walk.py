"""The whole story in one page of Python: from rows to a verified publication.

    python examples/walk.py rows.jsonl smollm2-135m

Everything the command line does is a call of `nexa.orchestrate`; this is the order of the calls.
"""

from __future__ import annotations

import sys
from pathlib import Path

from nexa.core.config import PublishSection
from nexa.core.tiers import Tiers
from nexa.orchestrate.publishing.publish import Request, publish
from nexa.orchestrate.reports import scores_of
from nexa.orchestrate.run import train
from nexa.orchestrate.start.init import init
from nexa.publish.verify import verify_folder


def walk(rows: Path, base: str, project: Path) -> Path:
    """Init, train, publish, verify; returns the published folder."""
    init(base, rows, folder=project)
    manifest = train(project / "config.yaml")
    for line in scores_of(manifest, project).rows:
        print("  ".join(line))
    print(f"verdict: {manifest.verdict}")

    wanted = PublishSection(repo="you/walked", hub="local")
    published = publish(Request(wanted, project / "output"), Tiers.of(project))
    folder = Path(published.body.location)
    verify_folder(folder, expect=published.body.root)
    return folder


if __name__ == "__main__":
    data, model = sys.argv[1:3]
    print(walk(Path(data), model, Path.cwd()))
