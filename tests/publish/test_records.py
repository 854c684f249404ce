from __future__ import annotations

from pathlib import Path

from nexa.core.manifest import RunManifest
from nexa.publish.hub_folder import HubFolder
from nexa.publish.publish import PublishSpec, publication_records
from nexa.publish.records import ROLES, RunFacts, read_records
from tests.publish.conftest import REPO
from tests.support.chain import Chain


def test_records_read_back_as_they_were_written(chain: Chain) -> None:
    spec = PublishSpec(repo=REPO, target=HubFolder(Path("hub")))
    manifest = RunManifest.model_validate(chain.manifest)

    records = publication_records(spec, chain.records, manifest, chain.store)

    assert read_records(records.to_bytes()) == records
    assert {role: records.role(role).digest for role in ROLES} == {
        role: artifact.digest for role, artifact in chain.records.items()
    }


def test_the_facts_of_a_run_name_no_host(chain: Chain) -> None:
    facts = RunFacts.of(RunManifest.model_validate(chain.manifest))

    assert facts.run_id == chain.manifest["run_id"]
    assert "host" not in facts.model_dump_json()
