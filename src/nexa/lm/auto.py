"""transformers' `Auto...` classes, imported without looking through all of its models twice.

Importing transformers reads the 1,600 files of its models for what they define. Importing
`transformers.models`, which the Auto classes need, reads them all again, for its memo has room for
128 folders of 500: 0.3 s. What the first look found is the memo's last entry.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import transformers
from transformers.utils import import_utils

LOOK = "create_import_structure_from_path"


def auto_class(name: str) -> Any:
    """`AutoTokenizer`, `AutoConfig` and so on."""
    with _models_known():
        return getattr(transformers, name)


@contextlib.contextmanager
def _models_known() -> Iterator[None]:
    """Hand out what the first look found; a transformers without this memo is left as it is."""
    look: Any = getattr(import_utils, LOOK, None)
    if not hasattr(look, "cache_info") or "transformers.models" in sys.modules:
        yield
        return
    models = Path(transformers.__file__).parent / "models"
    again = str(models / "__init__.py")
    setattr(import_utils, LOOK, lambda path: look(models if str(path) == again else path))
    try:
        yield
    finally:
        setattr(import_utils, LOOK, look)
