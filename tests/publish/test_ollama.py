from __future__ import annotations

import json

from nexa.publish.ollama import ollama_files

TEMPLATE = """{{ range .Messages }}
PARAMETER stop "inside the template"
{{ end }}"""


def test_template_and_numbers_become_files() -> None:
    modelfile = f"""# a comment
FROM ./x-q8_0.gguf
TEMPLATE \"\"\"{TEMPLATE}\"\"\"
PARAMETER stop "<|im_end|>"
PARAMETER stop "a \\"quoted\\" one"
PARAMETER stop bare
PARAMETER num_ctx 8192
"""

    files = ollama_files(modelfile.encode())

    assert files["template"] == TEMPLATE.encode()
    stops = ["<|im_end|>", 'a "quoted" one', "bare"]
    assert json.loads(files["params"]) == {"stop": stops, "num_ctx": 8192}


def test_what_is_not_there_makes_no_file() -> None:
    assert ollama_files(b"") == {}
    assert ollama_files(b"FROM ./x.gguf\n# no template\n") == {}
    assert list(ollama_files(b"PARAMETER num_ctx 512\n")) == ["params"]
