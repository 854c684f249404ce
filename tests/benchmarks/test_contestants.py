from __future__ import annotations

import pytest

from benchmarks.contest.contestants import NEXA, PEERS, REFERENCE, Peer, contestants, named
from benchmarks.contest.environments import ENVIRONMENTS
from benchmarks.contest.peer_runs import PEERS as SCRIPTS


def test_two_lists_name_who_takes_part_and_the_reference_comes_last() -> None:
    assert contestants("fused", "trl, trainer", reference=True) == [
        NEXA["fused"],
        PEERS["trl"],
        PEERS["trainer"],
        REFERENCE,
    ]
    assert contestants("", "", reference=False) == []


def test_a_name_may_carry_the_number_of_rows_that_are_padded_together() -> None:
    found = named("trl-best@8")
    assert isinstance(found, Peer)
    assert (found.name, found.micro_batch) == ("trl-best@8", 8)
    assert found.settings == PEERS["trl-best"].settings


@pytest.mark.parametrize("name", ["slowest", "trl@many", "fused@8"])
def test_an_unknown_name_is_refused_with_all_that_are_known(name: str) -> None:
    with pytest.raises(SystemExit, match=r"fused, generic, trl, trl-best"):
        named(name)


def test_every_peer_has_its_environment_and_its_script() -> None:
    for peer in PEERS.values():
        assert peer.environment in ENVIRONMENTS
        assert (SCRIPTS / peer.script).is_file()
