"""The Hugging Face Hub, or what speaks its protocol, as a place for publications.

A publication is one commit with `nexa/ROOT` in it, so a torn upload is never one. Large files go
ahead of the commit, each kept by the Hub as soon as it has wholly arrived: a killed upload that is
run again sends only what is missing. What the repository holds already is not sent at all.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from huggingface_hub import CommitOperationDelete, HfApi, snapshot_download
from huggingface_hub import errors as hub_errors
from huggingface_hub.hf_api import ModelInfo

from nexa.core.errors import (
    AccessError,
    GateError,
    IntegrityError,
    NetworkError,
    NexaError,
    StorageError,
)
from nexa.core.events import emit
from nexa.core.secrets import Secret
from nexa.lm.hub_access import refusal, require_write, token_argument
from nexa.lm.hub_progress import Download
from nexa.lm.hub_retry import Patience, TransportError, chain, reason
from nexa.publish import layout
from nexa.publish.hub import Placed, require_repo_name
from nexa.publish.hub_upload import Addition, Content, Upload, local_files, quiet

KEPT = "what is already uploaded is kept; run the same command again"
COMMIT_TRIES = 4
OVERTAKEN_STATUS = (409, 412)  # somebody else committed in between
MESSAGE = "Publish with nexa"


@dataclass(frozen=True)
class Remote:
    """What a repository's head holds."""

    commit: str
    private: bool
    digests: Mapping[str, tuple[str, str]]
    """Path -> ("sha256", of the content) or ("git", blob id), whichever the Hub tells."""

    @classmethod
    def of(cls, info: ModelInfo) -> Remote:
        """The Hub's answer with the files' metadata."""
        digests = {
            file.rfilename: ("sha256", file.lfs.sha256)
            if file.lfs is not None
            else ("git", str(file.blob_id))
            for file in info.siblings or ()
        }
        return cls(str(info.sha), bool(info.private), digests)

    @property
    def own_files(self) -> set[str]:
        """The files but those that the Hub itself writes."""
        return {name for name in self.digests if name.split("/")[0] not in layout.PASSED_OVER}


@dataclass
class HubRemote:
    """Repositories on a Hub. The token is sent with every call and kept nowhere else."""

    endpoint: str
    token: Secret | None
    patience: Patience = field(default_factory=Patience)

    def location(self, repo: str) -> str:
        """The address of a repository.

        Raises:
            UsageError: the name is not `owner/name`.
        """
        return f"{self.endpoint}/{require_repo_name(repo)}"

    def publish(
        self,
        repo: str,
        files: Mapping[str, bytes | Path],
        *,
        private: bool = False,
        allow_foreign: bool = False,
    ) -> Placed:
        """Make the repository hold exactly `files`, in one commit; `.gitattributes` stays.

        Args:
            repo: `owner/name`; made if it is not there.
            files: path inside it -> content.
            private: whether a repository that is made now is private; one that is there keeps
                what it is, and a difference is told.
            allow_foreign: whether files that nexa did not publish may go; the Hub's history keeps
                them.

        Raises:
            UsageError: the name is not `owner/name`.
            GateError: the repository holds something that nexa did not publish, or the Hub
                refuses the model card.
            AccessError: no token, or one that may not write there.
            NetworkError: out of reach after its retries.
            StorageError: a file cannot be read.
        """
        location = self.location(repo)
        with self._told(f"cannot publish to {repo}", KEPT):
            require_write(self.token, repo, self.endpoint, patience=self.patience)
            upload = Upload(self._api, repo, local_files(files), self.patience)
            self._create_or_reuse(repo, private)
            for _ in range(COMMIT_TRIES):
                there = self._require_remote(repo)
                self._refuse_foreign(repo, there, files, allow_foreign)
                additions = upload.missing(there.digests)
                deletions = sorted(there.own_files - set(files))
                if not additions and not deletions:
                    return Placed(location, changed=upload.sent)
                upload.send(additions)
                if self._commit(repo, upload, additions, deletions, there.commit):
                    return Placed(location, changed=True)
        raise NetworkError(
            f"cannot publish to {repo}: somebody else commits to it all the time",
            found=f"{COMMIT_TRIES} commits were overtaken",
            fix=KEPT,
        )

    def fetch(self, repo: str, folder: Path) -> Path | None:
        """Download the publication at the repository's head into `folder`, every digest checked.

        Returns:
            The folder; None if there is no such repository, or nothing that nexa published.

        Raises:
            UsageError: the name is not `owner/name`.
            AccessError: no token, or one that may not read it.
            NetworkError: out of reach after its retries.
            IntegrityError: what came is not what the Hub says it holds; names the files.
            StorageError: no space for it.
        """
        require_repo_name(repo)
        with self._told(f"cannot download {repo}", "run the same command again"):
            there = self._remote(repo)
            if there is None or layout.ROOT not in there.digests:
                return None
            self._download(repo, there, folder)
            local = local_files({name: folder / name for name in there.digests})
            wrong = [name for name, told in there.digests.items() if not local[name].is_it(told)]
        if wrong:
            raise IntegrityError(
                f"{repo} did not come as the Hub holds it: {', '.join(wrong)}",
                found=f"commit {there.commit}",
                fix="run the same command again",
            )
        return folder

    # -- the repository --------------------------------------------------------------------------

    @property
    def _api(self) -> HfApi:
        return HfApi(endpoint=self.endpoint, token=token_argument(self.token))

    def _create_or_reuse(self, repo: str, private: bool) -> None:
        there = self._remote(repo)
        if there is None:
            if self._create(repo, private):
                return
            there = self._require_remote(repo)
        if there.private != private:
            is_, asked = _visibility(there.private), _visibility(private)
            emit(
                "note",
                text=f"{repo} is there already and {is_}; it stays so, although {asked} was asked "
                f"for: change it in the repository's settings ({self.location(repo)}/settings)",
            )

    def _create(self, repo: str, private: bool) -> bool:
        """Whether it was made; not, if somebody (a lost answer of ours too) has made it already."""
        try:
            self.patience.call(
                lambda: self._api.create_repo(repo, private=private), f"making {repo}"
            )
        except hub_errors.HfHubHTTPError as error:
            if error.response.status_code != 409:
                raise
            return False
        emit("note", text=f"made the {_visibility(private)} repository {self.location(repo)}")
        return True

    def _remote(self, repo: str) -> Remote | None:
        try:
            info = self.patience.call(
                lambda: self._api.model_info(
                    repo, files_metadata=True, timeout=self.patience.silence_s
                ),
                f"looking at {repo}",
            )
        except hub_errors.RepositoryNotFoundError as error:
            # Absent is 404, or 401 for who sends no token; 401 for who sends one means the token.
            absent = 404 if self.token is not None else 401
            if error.response.status_code not in (404, absent):
                raise
            return None
        return Remote.of(info)

    def _require_remote(self, repo: str) -> Remote:
        there = self._remote(repo)
        if there is None:
            raise AccessError(
                f"{repo} is on the Hub, but this token is not shown it",
                found="it is private, and another's",
                fix="choose another --repo, or nexa login with a token of its owner",
            )
        return there

    def _refuse_foreign(
        self, repo: str, there: Remote, files: Mapping[str, bytes | Path], allowed: bool
    ) -> None:
        """What would go away must be an earlier publication's."""
        foreign = there.own_files - set(files)
        if layout.ROOT in there.digests:
            foreign -= self._published_before(repo, there) if foreign else set()
        else:
            foreign = there.own_files
        if not foreign:
            return
        names = ", ".join(sorted(foreign)[:5]) + (", ..." if len(foreign) > 5 else "")
        if not allowed:
            raise GateError(
                f"{self.location(repo)} holds files that nexa did not publish",
                found=names,
                fix="another --repo, or --allow 'foreign files': the Hub's history keeps them",
            )
        emit("note", text=f"replaced what nexa did not publish (it was allowed): {names}")

    def _published_before(self, repo: str, there: Remote) -> set[str]:
        """The files of the publication at the head, as its own list names them."""
        if layout.SUMS not in there.digests:
            return {layout.ROOT}
        with tempfile.TemporaryDirectory(prefix="nexa-sums-") as folder, quiet():
            path = self.patience.call(
                lambda: self._api.hf_hub_download(
                    repo, layout.SUMS, revision=there.commit, local_dir=folder
                ),
                f"reading {layout.SUMS} of {repo}",
            )
            listed = layout.read_sums(Path(path).read_bytes())
        return {layout.ROOT, layout.SUMS, *(listed or ())}

    def _commit(
        self,
        repo: str,
        upload: Upload,
        additions: list[Content],
        deletions: list[str],
        parent: str,
    ) -> bool:
        """One commit on top of `parent`; False when another came first."""
        operations: list[Addition | CommitOperationDelete] = [
            *upload.operations(additions),
            *(CommitOperationDelete(name) for name in deletions),
        ]
        try:
            upload.checked(
                lambda: self._api.create_commit(
                    repo, operations, commit_message=MESSAGE, parent_commit=parent
                ),
                f"committing to {repo}",
            )
        except hub_errors.HfHubHTTPError as error:
            if error.response.status_code not in OVERTAKEN_STATUS:
                raise
            emit("note", text=f"{repo} was changed meanwhile ({reason(error)}); looking again")
            return False
        return True

    def _download(self, repo: str, there: Remote, folder: Path) -> None:
        download = Download(repo)
        with download.watched() as bar:
            self.patience.call(
                lambda: snapshot_download(
                    repo,
                    revision=there.commit,
                    local_dir=folder,
                    tqdm_class=bar,
                    endpoint=self.endpoint,
                    token=token_argument(self.token),
                ),
                f"downloading {repo}",
            )

    @contextlib.contextmanager
    def _told(self, doing: str, kept: str) -> Iterator[None]:
        """huggingface_hub's errors as Nexa's; each says how to go on."""
        try:
            yield
        except NexaError as error:
            if isinstance(error, (AccessError, NetworkError)) and kept not in (error.fix or ""):
                raise type(error)(
                    error.what, found=error.found, fix=f"{error.fix}\n{kept}"
                ) from error
            raise
        except (TransportError, hub_errors.OfflineModeIsEnabled, OSError, RuntimeError) as error:
            told = self._explained(error, doing, kept)
            if told is None:
                raise
            raise told from error

    def _explained(self, error: Exception, doing: str, kept: str) -> NexaError | None:
        """An error of the Hub, or of this machine's disk; None: a fault of Nexa's own."""
        links = list(chain(error))
        if any(isinstance(link, TransportError | ConnectionError) for link in links):
            told = refusal(error, self.token, doing, self.endpoint)
            fix = kept if isinstance(told, NetworkError) else f"{told.fix}\n{kept}"
            return type(told)(told.what, found=told.found, fix=fix)
        if isinstance(error, OSError):
            where = error.filename or "a file"
            return StorageError(f"{doing}: {where}: {error.strerror or error}", fix=kept)
        return None


def _visibility(private: bool) -> str:
    return "private" if private else "public"
