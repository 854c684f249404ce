"""The tables of docs/SAFETY_POLICY.md, made from the code that they tell of."""

from __future__ import annotations

from nexa.core import errors, secrets
from nexa.core.errors import NexaError
from nexa.core.hazards.flags import KINDS, QUANTITIES, RULES_VERSION
from nexa.data.filters.red_flags import SOURCE_WORDS

# What stands in the way of a secret or of an unsafe file, and when.
REFUSALS: tuple[tuple[type[NexaError], str], ...] = (
    (
        errors.AccessError,
        "the Hub token is missing, malformed, wrong, expired, revoked or read-only; each with a "
        "line of its own",
    ),
    (errors.NetworkError, "the Hub cannot be asked whose token it is (`--no-validate` does not)"),
    (errors.StorageError, "the session's folder is open to others, a link or another user's"),
    (errors.GateError, "a file to be published holds a credential, or the evidence is not there"),
    (errors.ModelError, "weights are a pickle, or a model brings code that is not trusted"),
    (errors.IntegrityError, "bytes are not what their digest says"),
)


def credential_table() -> str:
    """The forms that the redactor and the publish scan know."""
    rows = ["| issued by | looks like |", "|---|---|"]
    for issuer, pattern in secrets.CREDENTIALS:
        shown = pattern.replace("|", "\\|")
        rows.append(f"| {issuer} | `{shown}` |")
    return "\n".join(rows)


def token_source_table() -> str:
    """Where the Hub token is looked for, in order."""
    rows = ["| | where | who puts it there |", "|---|---|---|"]
    for number, (where, who) in enumerate(secrets.TOKEN_SOURCES, 1):
        rows.append(f"| {number} | {where} | {who} |")
    return "\n".join(rows)


def refusal_table() -> str:
    """The exit codes of what is refused for safety's sake."""
    rows = ["| exit code | error | when |", "|---|---|---|"]
    rows += [f"| {kind.exit_code} | `{kind.__name__}` | {when} |" for kind, when in REFUSALS]
    return "\n".join(rows)


def hazard_table() -> str:
    """The kinds of hazards that proposals are searched for, and how severe each is."""
    rows = ["| kind | severity | what | answered by measures |", "|---|---|---|---|"]
    for name, kind in KINDS.items():
        answered = "yes" if kind.mitigated_by else "no"
        rows.append(f"| `{name}` | {kind.severity:g} | {kind.what} | {answered} |")
    return "\n".join(rows)


def rules_version() -> str:
    """The version that scores name the rules by, and whose answers they keep out of datasets."""
    begins = ", ".join(f"`{word}`" for word in SOURCE_WORDS)
    return (
        f"The rules have the version `{RULES_VERSION}`. A row's source says that a model wrote it "
        f"where it begins with {begins}, or is `model`, `model:NAME` or `model/NAME`."
    )


def quantity_list() -> str:
    """The quantities whose impossible values are found."""
    return "The quantities: " + ", ".join(f"`{name}`" for name in QUANTITIES) + "."


def child_variables() -> str:
    """Which variables a child process is not given."""
    words = ", ".join(f"`{word}`" for word in secrets.SECRET_WORDS)
    keys = ", ".join(f"`{word}_KEY`" for word in secrets.KEY_WORDS)
    return (
        f"- whose name ends in {words},\n- or in {keys},\n"
        "- or whose value holds one of the forms of the table above."
    )
