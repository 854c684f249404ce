"""The emulated Hub's answers: one function for each endpoint that huggingface_hub calls."""

from __future__ import annotations

import base64
import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs

from tests.support.hub_repos import Commit, Entry, Refused, Repo, Repos, Token, upload_mode
from tests.support.hub_wire import Answer, Call, json_headers

KINDS = {"models": "model", "datasets": "dataset", "spaces": "space"}
ID = r"(?P<id>[^/]+/[^/]+)"
API = rf"/api/(?P<kind>models|datasets|spaces)/{ID}"
GIT = rf"/(?:(?P<kind>datasets|spaces)/)?{ID}"
REVISION = r"(?P<revision>[^/]+)"
SIMPLE_DATE = "2026-01-01T00:00:00.000Z"
PRESIGNED = "/lfs-storage/"
Match = Mapping[str, str | None]


class Api:
    """Answers calls from what `repos` hold."""

    def __init__(self, repos: Repos) -> None:
        self.repos = repos
        self.tokens: dict[str, Token] = {}
        self.url = ""
        self.part_bytes: int | None = None
        """Larger objects are sent in parts of this size; None: all in one piece."""
        table: tuple[tuple[str, str, Callable[[Call, Match], Answer]], ...] = (
            ("GET", "/api/whoami-v2", self.whoami),
            ("POST", "/api/repos/create", self.create),
            ("DELETE", "/api/repos/delete", self.delete),
            ("POST", "/api/validate-yaml", self.validate_yaml),
            ("POST", rf"{API}/preupload/{REVISION}", self.preupload),
            ("POST", rf"{GIT}\.git/info/lfs/objects/batch", self.batch),
            ("PUT", rf"{PRESIGNED}(?P<oid>[0-9a-f]+)(?:/(?P<part>\d+))?", self.upload),
            ("POST", rf"{PRESIGNED}(?P<oid>[0-9a-f]+)/complete", self.complete),
            ("POST", rf"{GIT}\.git/info/lfs/verify", self.verify),
            ("POST", rf"{API}/commit/{REVISION}", self.commit),
            ("GET", rf"{API}(?:/revision/{REVISION})?", self.info),
            ("GET", rf"{API}/tree/{REVISION}(?:/(?P<path>.+))?", self.tree),
            ("POST", rf"{API}/paths-info/{REVISION}", self.paths_info),
            ("GET", rf"{API}/refs", self.refs),
            ("GET", rf"{API}/commits/{REVISION}", self.history),
            ("POST", rf"{API}/tag/{REVISION}", self.tag),
            ("GET", rf"{GIT}/resolve/{REVISION}/(?P<path>.+)", self.resolve),
            ("HEAD", rf"{GIT}/resolve/{REVISION}/(?P<path>.+)", self.resolve),
        )
        self.routes = [(method, re.compile(path), action) for method, path, action in table]

    def __call__(self, call: Call) -> Answer:
        """The answer to a call, a refusal among them."""
        try:
            for method, path, action in self.routes:
                if method == call.method and (match := path.fullmatch(call.path)):
                    return action(call, match.groupdict())
            raise Refused(404, "Not Found")
        except Refused as no:
            headers = {"X-Error-Message": no.message}
            if no.code:
                headers["X-Error-Code"] = no.code
            return told({"error": no.message, **no.fields}, no.status, headers)

    # -- who may what ----------------------------------------------------------------------------

    def caller(self, call: Call) -> Token | None:
        """Whose token came along, if one did."""
        header = call.headers.get("Authorization")
        if header is None:
            return None
        token = self.tokens.get(header.removeprefix("Bearer "))
        # A token that was deleted is answered as one that never was.
        if token is None or token.state == "revoked":
            raise Refused(401, "Invalid credentials in Authorization header")
        if token.state == "expired":
            raise Refused(401, f'User Access Token "{token.name}" is expired')
        return token

    def readable(self, call: Call, match: Match) -> Repo:
        """The repository of a call, if the caller may see it."""
        caller = self.caller(call)
        repo_id = str(match["id"])
        repo = self.repos.repos.get((KINDS[match.get("kind") or "models"], repo_id))
        if repo is None or (repo.private and not (caller and caller.may_read(repo_id))):
            if caller is None:
                raise Refused(401, "Invalid username or password.", "RepoNotFound")
            raise Refused(404, "Repository not found", "RepoNotFound")
        return repo

    def writable(self, call: Call, match: Match) -> Repo:
        """The repository of a call, if the caller may write to it."""
        caller = self.caller(call)
        if caller is None:
            raise Refused(401, "Invalid username or password.")
        repo = self.readable(call, match)
        if not caller.may_write(repo.id):
            raise Refused(
                403, "Forbidden: pass `create_pr=1` as a query parameter to create a Pull Request"
            )
        return repo

    def whoami(self, call: Call, _: Match) -> Answer:
        caller = self.caller(call)
        if caller is None:
            raise Refused(401, "Invalid username or password.")
        access: dict[str, Any] = {"displayName": caller.name, "role": caller.role}
        if caller.role == "fineGrained":
            access["fineGrained"] = {
                "global": [],
                "scoped": [
                    {"entity": {"type": "model", "name": name}, "permissions": ["repo.write"]}
                    for name in caller.scopes
                ],
            }
        organisations = [
            {"type": "org", "name": name, "roleInOrg": "write"} for name in caller.organisations
        ]
        return told(
            {
                "type": "user",
                "name": caller.name,
                "fullname": caller.name,
                "orgs": organisations,
                "auth": {"type": "access_token", "accessToken": access},
            }
        )

    # -- repositories ----------------------------------------------------------------------------

    def create(self, call: Call, _: Match) -> Answer:
        asked, repo_id, kind = self._named(call)
        url = f"{self.url}/{'' if kind == 'model' else f'{kind}s/'}{repo_id}"
        try:
            repo = self.repos.create(repo_id, kind, private=asked.get("visibility") == "private")
        except Refused as no:
            raise Refused(no.status, no.message, url=url) from no
        return told({"url": url, "name": repo.id, "id": repo.id})

    def delete(self, call: Call, _: Match) -> Answer:
        _, repo_id, kind = self._named(call)
        if self.repos.repos.pop((kind, repo_id), None) is None:
            raise Refused(404, "Repository not found", "RepoNotFound")
        return told({})

    def _named(self, call: Call) -> tuple[dict[str, Any], str, str]:
        caller = self.caller(call)
        if caller is None:
            raise Refused(401, "Invalid username or password.")
        asked = json.load(call.body)
        owner = asked.get("organization") or caller.name
        repo_id, kind = f"{owner}/{asked['name']}", asked.get("type") or "model"
        if not caller.may_write(repo_id):
            raise Refused(
                403, f'You don\'t have the rights to create a {kind} under the namespace "{owner}"'
            )
        return asked, repo_id, kind

    def validate_yaml(self, call: Call, _: Match) -> Answer:
        card = json.load(call.body)["content"]
        if not card.startswith("---\n"):
            warning = {"message": "empty or missing yaml metadata in repo card"}
            return told({"errors": [], "warnings": [warning]})
        return told({"errors": [], "warnings": []})

    def info(self, call: Call, match: Match) -> Answer:
        repo = self.readable(call, match)
        commit = repo.at(match["revision"] or "main")
        siblings: list[dict[str, Any]] = []
        for path, entry in commit.tree.items():
            row: dict[str, Any] = {"rfilename": path}
            if "blobs" in call.query:
                row |= {"size": entry.size, "blobId": entry.oid}
                if entry.lfs:
                    row["lfs"] = {"sha256": entry.lfs, "size": entry.size, "pointerSize": 128}
            siblings.append(row)
        return told(
            {
                "_id": "0" * 24,
                "id": repo.id,
                "author": repo.id.partition("/")[0],
                "sha": commit.id,
                "private": repo.private,
                "gated": "manual" if repo.gated else False,
                "disabled": False,
                "downloads": 0,
                "likes": 0,
                "tags": [],
                "lastModified": SIMPLE_DATE,
                "createdAt": SIMPLE_DATE,
                "siblings": siblings,
            }
        )

    def tree(self, call: Call, match: Match) -> Answer:
        commit = self.readable(call, match).at(str(match["revision"]))
        below = f"{match['path']}/" if match["path"] else ""
        recursive = call.query.get("recursive", [""])[0].lower() == "true"
        rows: dict[str, dict[str, Any]] = {}
        for path, entry in commit.tree.items():
            if not path.startswith(below):
                continue
            for folder in folders_of(path):
                if folder.startswith(below):
                    rows[folder] = {"type": "directory", "oid": "0" * 40, "size": 0, "path": folder}
            rows[path] = entry.listed(path)
        if below and not rows:
            raise Refused(404, f"{match['path']} does not exist", "EntryNotFound")
        shown = [row for path, row in rows.items() if recursive or "/" not in path[len(below) :]]
        return told(shown)

    def paths_info(self, call: Call, match: Match) -> Answer:
        commit = self.readable(call, match).at(str(match["revision"]))
        asked = parse_qs(call.body.read().decode()).get("paths", [])
        found = [commit.tree[path].listed(path) for path in asked if path in commit.tree]
        return told(found)

    def refs(self, call: Call, match: Match) -> Answer:
        repo = self.readable(call, match)
        main = {"name": "main", "ref": "refs/heads/main", "targetCommit": repo.head.id}
        tags = [
            {"name": tag, "ref": f"refs/tags/{tag}", "targetCommit": commit}
            for tag, commit in repo.tags.items()
        ]
        return told({"branches": [main], "converts": [], "tags": tags})

    def history(self, call: Call, match: Match) -> Answer:
        repo = self.readable(call, match)
        until = repo.commits.index(repo.at(str(match["revision"])))
        rows = [
            {
                "id": commit.id,
                "title": commit.title,
                "message": "",
                "date": SIMPLE_DATE,
                "authors": [{"user": repo.id.partition("/")[0]}],
            }
            for commit in reversed(repo.commits[: until + 1])
        ]
        return told(rows)

    def tag(self, call: Call, match: Match) -> Answer:
        repo = self.writable(call, match)
        name = json.load(call.body)["tag"]
        if name in repo.tags:
            raise Refused(409, f"Tag {name} already exists")
        repo.tags[name] = repo.at(str(match["revision"])).id
        return told({})

    # -- files out -------------------------------------------------------------------------------

    def resolve(self, call: Call, match: Match) -> Answer:
        repo = self.readable(call, match)
        if repo.gated:
            raise Refused(
                403, f"Access to model {repo.id} is restricted and you are not in the authorized "
                f"list. Visit {self.url}/{repo.id} to ask for access.", "GatedRepo",
            )  # fmt: skip
        commit = repo.at(str(match["revision"]))
        entry = commit.tree.get(str(match["path"]))
        if entry is None:
            raise Refused(404, "Entry not found", "EntryNotFound")
        headers = {
            "X-Repo-Commit": commit.id,
            "ETag": f'"{entry.etag}"',
            "Accept-Ranges": "bytes",
        }
        if entry.lfs:
            headers |= {"X-Linked-Etag": f'"{entry.lfs}"', "X-Linked-Size": str(entry.size)}
        content = self.repos.objects.path(entry.lfs) if entry.lfs else entry.data or b""
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", call.headers.get("Range", ""))
        if asked is None:
            return Answer(200, content, headers)
        first, last = int(asked[1]), min(int(asked[2] or entry.size - 1), entry.size - 1)
        if first > last:
            raise Refused(416, "Range Not Satisfiable")
        headers["Content-Range"] = f"bytes {first}-{last}/{entry.size}"
        return Answer(206, content, headers, first, last - first + 1)

    # -- files in --------------------------------------------------------------------------------

    def preupload(self, call: Call, match: Match) -> Answer:
        repo = self.writable(call, match)
        commit = repo.at(str(match["revision"]))
        rows = []
        for asked in json.load(call.body)["files"]:
            mode = upload_mode(asked["path"], asked["size"])
            row = {"path": asked["path"], "uploadMode": mode, "shouldIgnore": False}
            if there := commit.tree.get(asked["path"]):
                row["oid"] = there.etag
            rows.append(row)
        return told({"files": rows, "commitOid": commit.id})

    def batch(self, call: Call, match: Match) -> Answer:
        repo = self.writable(call, match)
        prefix = "" if repo.kind == "model" else f"{repo.kind}s/"
        verify = f"{self.url}/{prefix}{repo.id}.git/info/lfs/verify"
        rows = []
        for asked in json.load(call.body)["objects"]:
            row: dict[str, Any] = {"oid": asked["oid"], "size": asked["size"]}
            if not self.repos.objects.has(asked["oid"], asked["size"]):
                row["actions"] = {
                    "upload": self._upload_action(asked["oid"], asked["size"]),
                    "verify": {"href": verify},
                }
            rows.append(row)
        return told({"transfer": "basic", "objects": rows})

    def _upload_action(self, oid: str, size: int) -> dict[str, Any]:
        href = f"{self.url}{PRESIGNED}{oid}"
        if self.part_bytes is None or size <= self.part_bytes:
            return {"href": href}
        parts = range(1, -(-size // self.part_bytes) + 1)
        header = {str(part): f"{href}/{part}" for part in parts}
        return {"href": f"{href}/complete", "header": header | {"chunk_size": str(self.part_bytes)}}

    def upload(self, call: Call, match: Match) -> Answer:
        oid, part = str(match["oid"]), match["part"]
        arrived = self._part(oid, int(part or 0))
        with arrived.open("wb") as file:
            shutil.copyfileobj(call.body, file)
        if part is None:
            self.repos.objects.take_in(oid, [arrived])
        return Answer(200, headers={"ETag": f'"{oid[:8]}-{part or 0}"'})

    def complete(self, call: Call, match: Match) -> Answer:
        oid = str(match["oid"])
        numbers = [int(part["partNumber"]) for part in json.load(call.body)["parts"]]
        self.repos.objects.take_in(oid, [self._part(oid, number) for number in numbers])
        return told({"success": True})

    def _part(self, oid: str, number: int) -> Path:
        return self.repos.objects.folder / f"{oid}.part{number}"

    def verify(self, call: Call, match: Match) -> Answer:
        self.writable(call, match)
        asked = json.load(call.body)
        if not self.repos.objects.has(asked["oid"], asked["size"]):
            raise Refused(404, "Object not found")
        return told({})

    def commit(self, call: Call, match: Match) -> Answer:
        repo = self.writable(call, match)
        head, *operations = [json.loads(line) for line in call.body if line.strip()]
        parent = head["value"].get("parentCommit")
        if parent is not None and parent != repo.head.id:
            raise Refused(412, "A commit has happened since. Please refresh and try again.")
        tree = dict(repo.head.tree)
        for operation in operations:
            self._apply(tree, operation["key"], operation["value"])
        made: Commit = repo.add(head["value"]["summary"], tree)
        url = f"{self.url}/{repo.id}/commit/{made.id}"
        return told({"success": True, "commitOid": made.id, "commitUrl": url, "hookOutput": ""})

    def _apply(self, tree: dict[str, Entry], key: str, value: Mapping[str, Any]) -> None:
        path = value["path"]
        if key == "file":
            tree[path] = Entry.regular(base64.b64decode(value["content"]))
        elif key == "lfsFile":
            if not self.repos.objects.has(value["oid"], value["size"]):
                raise Refused(400, f"LFS pointer pointed to a file that does not exist: {path}")
            tree[path] = Entry.large(value["oid"], value["size"])
        elif key == "deletedFile":
            if tree.pop(path, None) is None:
                raise Refused(404, f"A file with this name doesn't exist: {path}", "EntryNotFound")
        else:
            raise Refused(400, f"unknown operation {key}")


def folders_of(path: str) -> list[str]:
    """The folders that a path goes through."""
    parents = [str(parent) for parent in PurePosixPath(path).parents]
    return [parent for parent in reversed(parents) if parent != "."]


def told(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """An answer in JSON."""
    return Answer(status, json.dumps(value).encode(), json_headers(headers or {}))
