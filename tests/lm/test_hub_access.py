from __future__ import annotations

from typing import Any

import pytest

from nexa.core.errors import AccessError, NetworkError
from nexa.core.secrets import Secret
from nexa.lm.hub_access import Identity, require_write, token_argument, whoami
from nexa.lm.hub_retry import Patience
from tests.support.hub_emulator import HubEmulator

VALUE = "hf_" + "t" * 34
AT_ONCE = Patience(tries=3, sleep=lambda wait_s: None)


def asked(hub: HubEmulator, value: str = VALUE, **token: Any) -> Identity:
    """Who the Hub says that a new token is."""
    return whoami(Secret(hub.add_token(value, **token), "the test"))


def test_a_token_is_its_owners_with_a_role(hub_emulator: HubEmulator) -> None:
    identity = asked(hub_emulator, name="ann", organisations=("lab",))
    assert (identity.name, identity.organisations, identity.role) == ("ann", ("lab",), "write")
    assert identity.may_write("ann/model")
    assert identity.may_write("lab/model")
    assert not identity.may_write("other/model")


def test_a_read_only_token_may_write_nowhere(hub_emulator: HubEmulator) -> None:
    assert not asked(hub_emulator, role="read").may_write("tester/model")


def test_a_fine_grained_token_may_write_where_it_says(hub_emulator: HubEmulator) -> None:
    identity = asked(hub_emulator, role="fineGrained", scopes=("tester/one", "lab"))
    assert identity.role == "fineGrained"
    assert [identity.may_write(repo) for repo in ("tester/one", "tester/two", "lab/x")] == [
        *(True, False, True)
    ]


def test_a_role_that_is_not_known_is_the_least(hub_emulator: HubEmulator) -> None:
    assert asked(hub_emulator, role="god").role == "read"


def test_an_identity_may_write_to_its_owner_unless_it_is_told_otherwise() -> None:
    identity = Identity("ann", ("lab",), "write")
    assert identity.may_write("ann/x")
    assert identity.may_write("lab/x")
    assert not Identity("ann", (), "read").may_write("ann/x")


@pytest.mark.parametrize(
    ("value", "state", "said"),
    [
        (VALUE, "expired", "the Hub token has expired"),
        (VALUE, "revoked", "it was revoked, or is mistyped"),
        ("wrong", "revoked", "this is not a Hub token"),
    ],
)
def test_each_bad_token_has_a_line_of_its_own(
    hub_emulator: HubEmulator, value: str, state: str, said: str
) -> None:
    hub_emulator.add_token(value, state=state)
    with pytest.raises(AccessError, match=said) as caught:
        whoami(Secret(value, "the test"))
    assert "from the test" in str(caught.value)
    assert "nexa login" in str(caught.value)
    assert value not in str(caught.value)


def test_an_overloaded_hub_is_asked_again(hub_emulator: HubEmulator) -> None:
    hub_emulator.add_token(VALUE)
    hub_emulator.plan_fault("GET", "whoami", 503, times=2)
    assert whoami(Secret(VALUE, "the test"), patience=AT_ONCE).name == "tester"
    hub_emulator.plan_fault("GET", "whoami", 429, times=3)
    with pytest.raises(NetworkError, match="cannot validate the Hub token"):
        whoami(Secret(VALUE, "the test"), patience=AT_ONCE)


def test_a_hub_out_of_reach_is_named() -> None:
    with pytest.raises(NetworkError, match=r"http://127\.0\.0\.1:9 cannot be reached"):
        whoami(Secret(VALUE, "the test"), "http://127.0.0.1:9", patience=AT_ONCE)


def test_the_right_to_write_is_shown_or_refused(hub_emulator: HubEmulator) -> None:
    secret = Secret(hub_emulator.add_token(VALUE), "the test")
    assert require_write(secret, "tester/model").name == "tester"
    with pytest.raises(AccessError, match=r"owner may not write there(.|\n)*--repo tester/model"):
        require_write(secret, "other/model")
    hub_emulator.add_token(VALUE, role="read")
    with pytest.raises(AccessError, match="the Hub token is read-only"):
        require_write(secret, "tester/model")
    hub_emulator.add_token(VALUE, role="fineGrained", scopes=("tester/one",))
    with pytest.raises(AccessError, match="was not given the right"):
        require_write(secret, "tester/two")


def test_no_token_is_told_with_both_ways_out() -> None:
    with pytest.raises(AccessError, match=r"nexa login(.|\n)*--hub local"):
        require_write(None, "tester/model")


def test_the_hub_client_never_looks_for_a_token_itself() -> None:
    assert token_argument(None) is False
    assert token_argument(Secret(VALUE, "the test")) == VALUE
