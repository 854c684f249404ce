"""A Hub id -> the folder of its snapshot in the standard Hub cache.

Of a model only configuration, tokenizer and safetensors are fetched, of a dataset only the files
of rows. Downloads resume and are verified by huggingface_hub; the Hub's own settings hold
(HF_HOME, HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE). Endpoint and token are handed over with every
call: huggingface_hub reads its environment only when it is imported, and the session's token is
not in it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub import errors as hub_errors

from nexa.core import events
from nexa.core.errors import AccessError, DataError, ModelError, NetworkError
from nexa.core.secrets import hub_endpoint, hub_token
from nexa.core.store import storage_error
from nexa.lm.folder import CODE_PATTERNS, MODEL_PATTERNS, weight_files
from nexa.lm.hub_access import refusal, token_argument
from nexa.lm.hub_progress import Download
from nexa.lm.hub_retry import TransportError, bound_silence, chain

DATA_SUFFIXES = (
    ".jsonl",
    ".ndjson",
    ".json",
    ".csv",
    ".tsv",
    ".parquet",
    ".arrow",
    ".feather",
    ".txt",
)
PACKED = ("", ".gz", ".zst")
DATA_PATTERNS = tuple(f"*{suffix}{packed}" for suffix in DATA_SUFFIXES for packed in PACKED)
# Beside the rows of many datasets; about them, not of them.
NOT_DATA = ("dataset_infos.json", "dataset_dict.json", "state.json", ".*", "**/.*")
ELSEWHERE = "give a local folder or file"
_ABSENT = (hub_errors.RepositoryNotFoundError, hub_errors.RevisionNotFoundError)


def cached(model_id: str, *, revision: str | None = None) -> Path | None:
    """The snapshot of a model in the Hub cache, without asking the Hub; None if it is not whole."""
    try:
        folder = snapshot_download(
            model_id,
            revision=revision,
            allow_patterns=list(MODEL_PATTERNS),
            local_files_only=True,
        )
    except hub_errors.LocalEntryNotFoundError:
        return None
    # Where only the configuration was fetched, huggingface_hub does not know what is missing.
    names = [path.name for path in Path(folder).iterdir()]
    return Path(folder) if weight_files(names) else None


def fetch(model_id: str, *, revision: str | None = None, code: bool = False) -> Path:
    """The snapshot of a model: what is missing is downloaded; offline, what the cache has.

    The folder's name is the commit. `code` fetches the model's own Python files too.

    Raises:
        ModelError: no such id or revision.
        AccessError: private or gated, and the token does not open it.
        NetworkError: the Hub cannot be reached and the cache does not have the model.
        StorageError: no space for it.
    """
    patterns = (*MODEL_PATTERNS, *(CODE_PATTERNS if code else ()))
    return _snapshot("model", model_id, revision, patterns)


def is_data(name: str) -> bool:
    """Whether a file of a dataset is fetched: one of rows, not one about them."""
    about = (*NOT_DATA, "*/.*")
    return any(fnmatch(name, one) for one in DATA_PATTERNS) and not any(
        fnmatch(name, one) for one in about
    )


def dataset_names(dataset_id: str, *, revision: str | None = None) -> list[str] | None:
    """The paths of all files of a dataset; None where the Hub cannot be reached.

    Raises:
        DataError: no such id or revision.
        AccessError: private or gated, and the token does not open it.
    """
    bound_silence()
    try:
        with _told("dataset", dataset_id, revision):
            api = HfApi(endpoint=hub_endpoint(), token=token_argument(hub_token()))
            found = api.dataset_info(dataset_id, revision=revision)
    except NetworkError:
        return None
    return [file.rfilename for file in found.siblings or ()]


def fetch_dataset(
    dataset_id: str, *, revision: str | None = None, inside: Sequence[str] = ()
) -> Path:
    """The folder of a dataset's files of rows, in the Hub cache; its name is the commit.

    `inside` limits what is fetched to these files and folders, or to those that they match.

    Raises:
        DataError: no such id or revision, or no file of rows in it.
        AccessError: private or gated, and the token does not open it.
        NetworkError: the Hub cannot be reached and the cache does not have the dataset.
        StorageError: no space for it.
    """
    below = tuple(f"{place}/{pattern}" for place in inside for pattern in DATA_PATTERNS)
    patterns = (*inside, *below) if inside else DATA_PATTERNS
    folder = _snapshot("dataset", dataset_id, revision, patterns)
    if not inside and not any(path.is_file() for path in folder.rglob("*")):
        raise DataError(
            f"the Hub's dataset {dataset_id} has no file of rows",
            found=f"none of {', '.join(DATA_SUFFIXES)}",
            fix="download it by hand, convert it to JSONL, and name the file as data.train_path",
        )
    return folder


def _snapshot(kind: str, repo_id: str, revision: str | None, patterns: tuple[str, ...]) -> Path:
    download = Download(repo_id)
    bound_silence()
    with _told(kind, repo_id, revision), download.watched() as bar:
        folder = Path(
            snapshot_download(
                repo_id,
                repo_type=kind,
                revision=revision,
                allow_patterns=list(patterns),
                ignore_patterns=list(NOT_DATA) if kind == "dataset" else None,
                tqdm_class=bar,
                endpoint=hub_endpoint(),
                token=token_argument(hub_token()),
            )
        )
    if not download.online:
        events.emit(
            "note",
            text=f"the Hub cannot be reached: {repo_id} is the cache's commit {folder.name[:12]}",
        )
    return folder


@contextlib.contextmanager
def _told(kind: str, repo_id: str, revision: str | None) -> Iterator[None]:
    """huggingface_hub's errors as Nexa's."""
    try:
        yield
    except hub_errors.HFValidationError as error:
        raise _no_such(kind, f"{repo_id!r} is not a Hub id", str(error)) from error
    except (TransportError, hub_errors.LocalEntryNotFoundError) as error:
        raise _refused(error, kind, repo_id, revision) from error
    except OSError as error:
        raise storage_error(Path(error.filename or "."), error) from error


def _refused(
    error: Exception, kind: str, repo_id: str, revision: str | None
) -> ModelError | DataError | AccessError | NetworkError:
    for link in chain(error):
        if isinstance(link, _ABSENT) and link.response.status_code == 404:
            if isinstance(link, hub_errors.RevisionNotFoundError):
                return _no_such(kind, f"{repo_id} has no revision {revision!r} on the Hub")
            return _no_such(
                kind,
                f"the Hub has no {kind} {repo_id}, or it is private",
                "there is no folder of this name here either",
                f"check the id; for a private {kind}: nexa login",
            )
    told = refusal(error, hub_token(), f"cannot download {repo_id}", hub_endpoint())
    if isinstance(told, AccessError) and isinstance(error, hub_errors.RepositoryNotFoundError):
        # Without a token the Hub does not tell what is private from what does not exist.
        fix = f"check the id; for a private {kind}: {told.fix}"
        return AccessError(told.what, found=told.found, fix=fix)
    if isinstance(told, AccessError):
        return told
    return NetworkError(
        f"{told.what}, and the Hub cache does not have it",
        found=told.found,
        fix=f"{told.fix}, or {ELSEWHERE}",
    )


def _no_such(
    kind: str, what: str, found: str | None = None, fix: str | None = None
) -> ModelError | DataError:
    error = ModelError if kind == "model" else DataError
    return error(what, found=found, fix=fix)
