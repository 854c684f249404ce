"""Whether a model folder or a GGUF file is a given model, whoever made it."""

from __future__ import annotations

from pathlib import Path

from nexa.core.errors import ModelError
from nexa.lm import folder
from nexa.lm.resolve import ModelFiles
from nexa.weights.checks import Parity
from nexa.weights.copy_proof import prove_copy


def prove_folder(made: Path, source: ModelFiles) -> Parity:
    """Compare a model folder or a `.gguf` file, made by any tool, with the model it should be.

    A folder's tensors have to be the source's rounded once to the type they have; a GGUF file's
    have to lie within the bounds of their types, as quantisers round in ways of their own.

    Raises:
        ModelError: one of the two is no whole model, or the family is one that is not held so.
    """
    if source.adapter is not None:
        raise ModelError(
            f"{source.name} is an adapter beside its base, not one model",
            fix="merge it first: nexa merge",
        )
    path = _gguf_in(made)
    if path is not None:
        # Only here: a model folder needs nothing of it.
        from nexa.weights.gguf.proof import prove_gguf

        parity = prove_gguf(path, source.folder, None)
    else:
        folder.digests(made)  # it says what a folder lacks to be a model
        parity = prove_copy(made, source.folder)
    return Parity(
        parity.checks,
        {"made": made.name, "source": source.ref.model_dump(), **parity.facts},
        refusal=f"{made.name} is not {source.name}",
        fix="nexa parity compares with the very model it was made from: name that one",
    )


def _gguf_in(made: Path) -> Path | None:
    """The GGUF file that is meant; None for a model folder.

    Raises:
        ModelError: nothing there, another kind of file, or several GGUF files.
    """
    if made.is_file() and made.suffix == ".gguf":
        return made
    if not made.is_dir():
        raise ModelError(
            f"{made} is neither a model folder nor a .gguf file",
            found="another file" if made.exists() else "nothing there",
        )
    found = sorted(made.glob("*.gguf"))
    if (made / "config.json").exists() or not found:
        return None
    if len(found) > 1:
        raise ModelError(
            f"{made} has several GGUF files",
            found=", ".join(path.name for path in found),
            fix=f"name one of them: {found[0]}",
        )
    return found[0]
