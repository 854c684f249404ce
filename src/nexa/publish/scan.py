"""The last look before files leave the machine: none of them may hold a credential."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from gguf import GGUFReader, GGUFValueType

from nexa.core.errors import GateError
from nexa.core.secrets import find_secrets, redact

HEADER_SIZE_BYTES = 8  # a safetensors file begins with the length of its header, little-endian
NAMED = 10


def refuse_secrets(files: Mapping[str, bytes | Path]) -> None:
    """Look through every file of a publication: text whole, of tensors the names and metadata.

    Raises:
        GateError: names each file and line that holds what looks like a credential, or the very
            token that publishes, never the credential itself.
    """
    found = [place for name, content in sorted(files.items()) for place in _places(name, content)]
    if found:
        more = f"\nand {len(found) - NAMED} more" if len(found) > NAMED else ""
        raise GateError(
            "cannot publish: a file holds what looks like a secret",
            found="\n".join(found[:NAMED]) + more,
            fix="take it out of the data or the model's folder, revoke it, and run again",
        )


def _places(name: str, content: bytes | Path) -> list[str]:
    reader = TENSORS.get(PurePosixPath(name).suffix.lower())
    data = (reader or _whole)(content)
    text = data.decode(errors="replace")
    if redact(text) == text:
        return []
    if reader:
        return [f"{name} in its header"]
    # The redactor also knows the token in use, which may look like nothing.
    known = (n for n, line in enumerate(text.splitlines(), 1) if redact(line) != line)
    lines = find_secrets(text) or list(known)
    return [f"{name} line {line}" for line in lines] or [name]


def _whole(content: bytes | Path) -> bytes:
    return content if isinstance(content, bytes) else content.read_bytes()


def _tensor_header(content: bytes | Path) -> bytes:
    """The JSON with the names, shapes and metadata of a safetensors file."""
    if isinstance(content, bytes):
        size = int.from_bytes(content[:HEADER_SIZE_BYTES], "little")
        return content[HEADER_SIZE_BYTES:][:size]
    with content.open("rb") as file:
        size = int.from_bytes(file.read(HEADER_SIZE_BYTES), "little")
        return file.read(min(size, content.stat().st_size))


def _gguf_texts(content: bytes | Path) -> bytes:
    """The keys and texts of a GGUF file's metadata, one a line.

    Its lists are the tokenizer's, which are looked through whole where they lie beside it as JSON.
    """
    if isinstance(content, bytes):
        return content
    try:
        fields = GGUFReader(content).fields.values()
    except ValueError as error:
        raise GateError(
            "cannot publish: what should be a GGUF file is none", found=str(error)
        ) from error
    texts = (f.contents() for f in fields if f.types == [GGUFValueType.STRING])
    return "\n".join([*(f.name for f in fields), *texts]).encode()


# Of a file of tensors only what is text is looked through.
TENSORS = {".safetensors": _tensor_header, ".gguf": _gguf_texts}
