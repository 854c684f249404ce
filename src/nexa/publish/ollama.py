"""What Ollama reads of a repository on the Hub: a Modelfile's template and numbers, each as a file.

`ollama run hf.co/OWNER/NAME` passes over a Modelfile. It takes `template` (in Go's syntax) and
`params` (JSON) instead, and without them guesses by the chat template inside the GGUF file. Both
are a pure function of the sealed Modelfile, so `nexa verify` writes them again and compares.

Source: Hub documentation, "Use Ollama with any GGUF Model on Hugging Face Hub".
"""

from __future__ import annotations

import json
import re

TEMPLATE, PARAMETERS = "template", "params"
TEMPLATE_LINES = re.compile(r'^TEMPLATE """(.*?)"""$', re.MULTILINE | re.DOTALL)
PARAMETER_LINE = re.compile(r"^PARAMETER (\w+) (.+)$", re.MULTILINE)
STOP = "stop"  # the one parameter that may be there several times


def ollama_files(modelfile: bytes) -> dict[str, bytes]:
    """The files that say to the Hub's Ollama what a Modelfile says; none of an empty one."""
    text = modelfile.decode(errors="replace")
    files: dict[str, bytes] = {}
    template = TEMPLATE_LINES.search(text)
    if template is not None:
        files[TEMPLATE] = template[1].encode()
        text = text.replace(template[0], "")
    parameters: dict[str, object] = {}
    for name, value in PARAMETER_LINE.findall(text):
        read = _value(value)
        parameters[name] = [*_stops(parameters), read] if name == STOP else read
    if parameters:
        files[PARAMETERS] = (json.dumps(parameters, indent=2, ensure_ascii=False) + "\n").encode()
    return files


def _value(told: str) -> object:
    """A number, or a text; in a Modelfile a text may stand in quotes."""
    try:
        return json.loads(told, strict=False)
    except ValueError:
        return told


def _stops(parameters: dict[str, object]) -> list[object]:
    found = parameters.get(STOP)
    return found if isinstance(found, list) else []
