"""llama.cpp in a process of its own: `python -m nexa.lm.llama_cpp_server`.

A file that breaks one of llama.cpp's assertions ends its process, which must not be the user's.
What it shall run comes in as one line of JSON on standard input; a line goes out on standard output
as soon as it answers on its socket, or cannot; what it complains of goes to standard error. It ends
with its parent, not before: llama.cpp writes its log in a thread, which an early end would cut off.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from typing import Any

READY = "ready"
REFUSED = "refused"
ERRORS_ONLY = 1


def load(job: dict[str, Any]) -> Any:
    """The server of a job, which has `path`, `socket`, `positions` and `threads`.

    None for a file that cannot be loaded; why is on standard error.
    """
    from xllamacpp import Server

    try:
        return Server(parameters(job))
    except RuntimeError:
        traceback.print_exc()
        return None


def parameters(job: dict[str, Any]) -> Any:
    """One text at a time on the CPU, keys and values in float32, nothing kept or offered beside.

    With several texts at a time the clock decides which tokens share a batch; with the batch the
    last bits of the logits change, and now and then a word. On a processor it was no faster.
    """
    from xllamacpp import CommonParams, ggml_type, llama_flash_attn_type

    told = CommonParams()
    told.model.path = job["path"]
    told.hostnames = [job["socket"]]
    told.n_ctx = job["positions"] + 1  # for it refuses a prompt that fills its context
    told.n_parallel = 1
    told.n_threads_http = 2
    told.cpuparams.n_threads = told.cpuparams_batch.n_threads = job["threads"]
    told.cache_type_k = told.cache_type_v = ggml_type.GGML_TYPE_F32
    told.flash_attn_type = llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    told.n_gpu_layers = 0
    told.no_kv_offload = told.no_op_offload = True
    told.fit_params = told.warmup = False
    told.cache_ram_mib = 0
    told.ui = told.endpoint_slots = told.use_jinja = told.enable_chat_template = False
    told.verbosity = ERRORS_ONLY
    return told


if __name__ == "__main__":
    # The line goes out alone: whatever else prints goes to standard error.
    alone = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    import xllamacpp  # noqa: F401 - now, while the file may still be on its way

    server = load(json.loads(sys.stdin.readline()))
    sys.stderr.flush()
    alone.write((REFUSED if server is None else READY) + "\n")
    alone.flush()
    sys.stdin.read()
    os._exit(server is None)  # at once: to wait for the server's threads may take for ever
