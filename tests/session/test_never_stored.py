"""What the source may not contain: a way for a secret to stay."""

from __future__ import annotations

import re

from tests.architecture.files import SOURCE

# Calls that put a credential into a file or a keyring, or make another library do it.
STORING = re.compile(
    r"\b(?:huggingface_hub|wandb|HfApi|notebook)\.login\b|\bfrom huggingface_hub import .*\blogin\b"
    r"|\b(?:interpreter|notebook)_login\b|\bkeyring\b|\bset_password\b|\bset_key\(|\bsave_token\b"
    r"|\badd_to_git_credential\b|\bHfFolder\b|\b_save_token\b|\bset_access_token\b"
)
# A credential put into this process's environment, which its children would inherit.
EXPORTING = re.compile(
    r"environ\[[\"'](?:HF_TOKEN|HUGGING_FACE_HUB_TOKEN|WANDB_API_KEY)[\"']\]\s*="
    r"|environ\.(?:setdefault|update)\(|\bputenv\("
)
# Who may take a token's value out of its Secret, and what for.
REVEALING = {
    "core/secrets.py": "the redactor, the mask, and the pipe to a child",
    "lm/chat_http.py": "the header of a request to a teacher",
    "lm/hub_access.py": "the header of a request to the Hub",
    "session/client.py": "the hand-over to the session's memory",
}


def places_of(pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{path.relative_to(SOURCE)}:{number}"
        for path in sorted(SOURCE.rglob("*.py"))
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if pattern.search(line)
    ]


def test_no_login_that_stores_is_called_and_no_keyring_written() -> None:
    assert places_of(STORING) == []


def test_no_credential_is_put_into_the_environment() -> None:
    assert places_of(EXPORTING) == []


def test_the_value_is_taken_out_only_where_it_is_needed() -> None:
    files = {place.partition(":")[0] for place in places_of(re.compile(r"\.reveal\(\)"))}
    assert files == set(REVEALING)


def test_only_clients_are_given_the_value() -> None:
    """No file is written in the modules that see it."""
    writing = re.compile(r"write_text|write_bytes|write_atomic|open\([^)]*[\"'][wax]")
    seeing = [name for name in REVEALING if name != "core/secrets.py"]
    for name in [*seeing, "session/app.py", "session/vault.py"]:
        assert not writing.search((SOURCE / name).read_text(encoding="utf-8")), name


def test_every_child_process_gets_an_environment_without_credentials() -> None:
    starting = re.compile(
        r"subprocess\.(?:run|Popen|check_\w+|call)\(|os\.(?:posix_spawn|exec\w+)\("
    )
    for path in sorted(SOURCE.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        code = re.sub(r'""".*?"""', "", text, flags=re.DOTALL)
        # One that is written out holds what is written there and nothing else.
        given = code.count("child_environment()") + len(re.findall(r"\benv=\{(?!\*)", code))
        assert len(starting.findall(code)) <= given, path.name


def test_the_patterns_find_what_they_look_for() -> None:
    for line in (
        "huggingface_hub.login(token)",
        "from huggingface_hub import HfApi, login",
        "wandb.login(key=key)",
        "keyring.set_password('nexa', 'hub', token)",
    ):
        assert STORING.search(line), line
    assert EXPORTING.search('os.environ["HF_TOKEN"] = token')
    assert EXPORTING.search("os.environ.update(secrets)")
