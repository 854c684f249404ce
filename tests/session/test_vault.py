from __future__ import annotations

import gc
import time

from nexa.session.vault import Vault, boot_s

TOKEN = "hf_" + "Vault" * 7


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def filled(clock: Clock) -> Vault:
    vault = Vault(clock)
    vault.put(TOKEN, ttl_s=60, about={"masked": "hf_Va...ault", "name": "ada"})
    return vault


def test_what_is_put_in_comes_out_and_says_how_long_it_stays() -> None:
    clock = Clock()
    vault = filled(clock)
    assert vault.token() == TOKEN
    clock.now_s += 20
    assert vault.state() == {
        "masked": "hf_Va...ault",
        "name": "ada",
        "has_token": True,
        "expired": False,
        "expires_in_s": 40,
    }


def test_a_token_is_forgotten_the_moment_its_time_is_over() -> None:
    clock = Clock()
    vault = filled(clock)
    clock.now_s += 59.9
    assert vault.token() == TOKEN
    clock.now_s += 0.1
    assert vault.token() is None
    assert vault.state() == {"has_token": False, "expired": True, "expires_in_s": None}


def test_clear_forgets_and_says_whether_there_was_something() -> None:
    vault = filled(Clock())
    assert vault.clear()
    assert not vault.clear()
    assert vault.token() is None
    assert vault.state() == {"has_token": False, "expired": False, "expires_in_s": None}


def test_a_new_token_takes_the_place_of_the_old_one_under_a_key_of_its_own() -> None:
    clock = Clock()
    vault = filled(clock)
    assert vault._kept is not None
    first = vault._kept.fernet
    vault.put("hf_" + "Other" * 7, ttl_s=10, about={})
    assert vault.token() == "hf_" + "Other" * 7
    assert vault._kept.fernet is not first


def test_the_vault_holds_no_text_of_the_token_and_prints_none() -> None:
    token = "".join(["hf_", *("Plain" for _ in range(7))])
    vault = Vault()
    vault.put(token, ttl_s=60, about={})
    held = [str(vault._kept), repr(vault), repr(vars(vault))]
    for found in gc.get_referents(vault, vars(vault), vault._kept, vars(vault._kept)):
        held.append(repr(found))
    assert not [text for text in held if token in text]


def test_it_knows_for_how_long_it_has_been_empty() -> None:
    clock = Clock()
    vault = Vault(clock)
    clock.now_s += 5
    assert vault.empty_s() == 5
    vault.put(TOKEN, ttl_s=60, about={})
    clock.now_s += 30
    assert vault.empty_s() == 0
    clock.now_s += 30
    assert vault.empty_s() == 0  # it ran out just now
    clock.now_s += 7
    assert vault.empty_s() == 7


def test_the_clock_counts_the_machines_sleep_where_it_can() -> None:
    assert boot_s() >= time.monotonic() - 1
