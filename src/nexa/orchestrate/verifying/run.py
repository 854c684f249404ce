"""Whether one run is what it was: manifest, records, copies, and every number derived again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nexa.core.errors import IntegrityError, NexaError
from nexa.core.identity import sha256_bytes, sha256_file
from nexa.core.ledger import SUMS, read_sums
from nexa.core.manifest import RunManifest, read_manifest
from nexa.core.records import Artifact
from nexa.core.safety import summary_of_tuned
from nexa.core.scoring import alike, derive_report
from nexa.core.store_check import Problem, StoreCheck
from nexa.core.tiers import Tiers
from nexa.eval.analyze import contaminated
from nexa.eval.compare import read_side
from nexa.orchestrate.output import EXPORTED, TRAINED, Card
from nexa.orchestrate.steps import STEPS
from nexa.orchestrate.verifying.durable import DurableCheck
from nexa.orchestrate.verifying.rescore import rescored_problems
from nexa.publish import layout
from nexa.publish.verify import inspect_folder
from nexa.ui.leaderboard import from_parquet
from nexa.ui.leaderboard_entries import entries_of

# Role in `RunManifest.digests` -> where the file lies in durable storage.
LEFT = {"report": "evals/reports/{}.html", "cost": "costs/{}.json", "lineage": "lineage/{}.json"}
# What an entry says whoever entered it last; the rest is of the run that did.
ENTERED = ("mean", "low", "high", "rows", "groups", "primary")


@dataclass
class RunCheck:
    """One run under verification, beside a store and a durable storage that others check too."""

    tiers: Tiers
    run_id: str
    store: StoreCheck
    durable: DurableCheck

    @property
    def path(self) -> Path:
        """The run's manifest in the ledger."""
        return self.tiers.manifests / f"{self.run_id}.json"

    def everything(self) -> Iterator[tuple[str, list[Problem]]]:
        """Each question with its problems; what hangs on a failed one is not asked any more."""
        unsound = list(self._manifest())
        yield "manifest", unsound
        try:
            manifest = read_manifest(self.path)
        except IntegrityError as error:
            if not unsound:
                yield "manifest", [Problem(str(self.path), error.found or error.what)]
            return
        broken = [
            problem
            for role, digest in manifest.outputs.items()
            for problem in self.store.artifact(digest, f"{self.path}: {role}")
        ]
        yield "records and their files", broken
        made = {role: self.store.records.get(digest) for role, digest in manifest.outputs.items()}
        whole = {role: artifact for role, artifact in made.items() if artifact is not None}
        yield "durable copies", list(self._durable(manifest, whole))
        yield "output folder", list(self._output(manifest))
        yield "publications", list(self._publications(manifest))
        # The store may know of damage that an earlier run was told of already.
        if not unsound and not broken and len(whole) == len(made) and not self._damaged(whole):
            yield "scores and report, derived again", list(self._derived(manifest, whole))

    # -- bytes ---------------------------------------------------------------------------

    def _manifest(self) -> Iterator[Problem]:
        try:
            noted = read_sums(self.tiers.manifests).get(self.path.name)
        except IntegrityError as error:
            yield Problem(str(self.tiers.manifests / SUMS), error.what)
            return
        data = self.path.read_bytes() if self.path.is_file() else b""
        if noted is None:
            if not _is_running(data):
                yield Problem(str(self.path), f"has ended, and {SUMS} has no digest of it")
        elif sha256_bytes(data) != noted:
            yield Problem(str(self.path), f"is not what its digest in {SUMS} says")

    def _damaged(self, whole: Mapping[str, Artifact[Any]]) -> bool:
        digests = {d for artifact in whole.values() for d in artifact.files.values()}
        return any(self.store.blobs.get(digest) for digest in digests)

    def _durable(
        self, manifest: RunManifest, made: Mapping[str, Artifact[Any]]
    ) -> Iterator[Problem]:
        dataset = made.get("dataset")
        if dataset is not None:
            name = f"datasets/{dataset.name}/{dataset.version}"
            yield from self.durable.folder(name, dict(dataset.files))
        if manifest.checkpoint_dir_durable and "checkpoint" in made:
            files = dict(made["checkpoint"].files)
            yield from self.durable.folder(f"checkpoints/{self.run_id}", files)
        for role, name in LEFT.items():
            if role in manifest.digests:
                yield from self.durable.file(name.format(self.run_id), manifest.digests[role])
        if manifest.status == "done" and "report" in manifest.outputs:
            yield from self.durable.file(f"manifests/{self.run_id}.json", sha256_file(self.path))

    def _output(self, manifest: RunManifest) -> Iterator[Problem]:
        """The folder left to the user, while it still is this run's."""
        folder = self._place(manifest, manifest.output_dir) if manifest.output_dir else None
        noted = {TRAINED: "final_model", EXPORTED: "export"}
        for card, role in noted.items():
            if folder is not None and role in manifest.digests and (folder / card.name).is_file():
                yield from self._left(folder, card, manifest.digests[role])

    def _left(self, folder: Path, card: Card, noted: str) -> Iterator[Problem]:
        data = (folder / card.name).read_bytes()
        if sha256_bytes(data) != noted:
            # Another run's model, put here since, is that run's to verify.
            if f'"run_id": "{self.run_id}"'.encode() in data:
                yield Problem(str(folder / card.name), "was changed after it was left here")
            return
        for name, digest in json.loads(data)["files"].items():
            path = folder / name
            if not path.is_file():
                yield Problem(str(path), "is missing")
            elif sha256_file(path) != digest:
                yield Problem(str(path), "was changed after it was left here")

    def _publications(self, manifest: RunManifest) -> Iterator[Problem]:
        """What was published into folders of this machine, unless it was replaced or removed."""
        for address in manifest.publications:
            folder = self._place(manifest, address)
            if "://" in address or not (folder / layout.ROOT).is_file():
                continue
            for check in inspect_folder(folder):
                yield from (Problem(str(folder / name), what) for name, what in check.problems)

    # -- meaning -------------------------------------------------------------------------

    def _derived(
        self, manifest: RunManifest, made: Mapping[str, Artifact[Any]]
    ) -> Iterator[Problem]:
        for artifact in made.values():
            if artifact.step.get("version") != STEPS[str(artifact.step["name"])].version:
                continue  # derived by other code than there is now
            try:
                if artifact.kind == "scores":
                    yield from self._scores(artifact)
                elif artifact.kind == "report":
                    yield from self._report(artifact)
            except NexaError as error:
                yield Problem(self._record(artifact), f"cannot be derived again: {error.what}")
        yield from self._claims(manifest, made)
        yield from self._board(manifest, made)

    def _scores(self, sealed: Artifact[Any]) -> Iterator[Problem]:
        """Mark the sealed answers once more."""
        for problem in rescored_problems(sealed, self.tiers.store):
            yield Problem(self._record(sealed), problem)

    def _report(self, sealed: Artifact[Any]) -> Iterator[Problem]:
        """Compare the sealed scores once more, and look for leaks once more."""
        store, suite = self.tiers.store, self._input(sealed, "suite")
        base, tuned = self._input(sealed, "base"), self._input(sealed, "tuned")
        dataset = self._input(sealed, "dataset") if "dataset" in sealed.inputs else None
        again = derive_report(
            suite.body,
            read_side(base, store),
            read_side(tuned, store),
            forgetting_limit_nats=sealed.body.forgetting_limit_nats,
            contaminated_rows=None if dataset is None else contaminated(suite, dataset, store),
            seal=base.body.seal,
        )
        if not alike(again.model_dump(mode="json"), sealed.body.model_dump(mode="json")):
            yield Problem(self._record(sealed), "does not follow from the scores and the dataset")

    def _claims(
        self, manifest: RunManifest, made: Mapping[str, Artifact[Any]]
    ) -> Iterator[Problem]:
        """The manifest says of the records what they say themselves."""
        told: dict[str, Any] = {}
        if "dataset" in made:
            told["dataset_hash"] = made["dataset"].digest
        if "checkpoint" in made and made["checkpoint"].kind == "checkpoint":  # not an adopted one
            body = made["checkpoint"].body
            # A model that was adopted has no mask, no seed and no tokens that Nexa knows of.
            facts = ("mask_sha256", "template_sha256", "seed")
            told |= {key: getattr(body, key, None) for key in facts}
            told["tokens_trained"] = getattr(body, "tokens_trained", 0)
        if "report" in made:
            report = made["report"].body
            told["verdict"] = report.verdict
            told["eval_summary"] = summary_of_tuned(report)
        for key, value in told.items():
            if manifest.status == "done" and getattr(manifest, key) != value:
                yield Problem(str(self.path), f"its {key} is not what the records say")

    def _board(self, manifest: RunManifest, made: Mapping[str, Artifact[Any]]) -> Iterator[Problem]:
        """The leaderboard has the run's scores; another run of the same model may have entered."""
        if not manifest.eval_report or manifest.status != "done" or "report" not in made:
            return
        name = f"evals/reports/{Path(manifest.eval_report).name}"
        place = self.tiers.durable_place(name)
        try:
            board = {entry.key: entry for entry in from_parquet(self.tiers.read(name), place)}
        except NexaError as error:
            yield Problem(place, error.found or error.what)
            return
        for entry in entries_of(made, manifest.model_dump(mode="json", by_alias=True)):
            there = board.get(entry.key)
            if there is None or any(getattr(there, f) != getattr(entry, f) for f in ENTERED):
                what = f"does not have the {entry.role} {entry.metric} of run {self.run_id}"
                yield Problem(place, what)

    def _place(self, manifest: RunManifest, address: str) -> Path:
        """Where a folder is that a manifest names, also when the whole project was moved."""
        ledger = manifest.deliverables.get("manifest")
        if ledger:
            was = Path(ledger).parents[len(self.path.relative_to(self.tiers.root).parents) - 1]
            if Path(address).is_relative_to(was):
                return self.tiers.root / Path(address).relative_to(was)
        return Path(address)

    def _input(self, artifact: Artifact[Any], role: str) -> Artifact[Any]:
        return self.tiers.store.by_digest(artifact.inputs[role])

    def _record(self, artifact: Artifact[Any]) -> str:
        folder = self.tiers.store.root / "records" / artifact.kind
        return f"{folder / artifact.digest}.json ({artifact.label})"


def _is_running(data: bytes) -> bool:
    """Whether a manifest says so itself; one that cannot be read is not under way."""
    try:
        return bool(json.loads(data)["status"] == "running")
    except (ValueError, KeyError, TypeError):
        return False
