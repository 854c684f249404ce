"""Tasks of the lm-evaluation-harness: found, loaded and written out as questions.

lm-eval says what is asked and how answers are marked; Nexa's models answer (`harness_model`), and
what came out is sealed like any other evaluation (`harness`). The package is imported inside these
functions only: it is an extra, and slow.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import json
import logging
import os
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nexa.core.errors import EvalError, MissingExtra, nearest
from nexa.core.identity import canonical_json, sha256_bytes, sha256_file

INSTALL = "pip install 'nexa-compute[eval]'"
PREFIX = "lm-eval:"  # before a task's name in a suite's record
# lm-eval's own: what its command line seeds, so that examples are the same as by hand.
SEEDS = {"random_seed": 0, "numpy_random_seed": 1234, "torch_random_seed": 1234}
FEWSHOT_SEED = 1234
NO_POOL = "DISABLE_MULTIPROC"  # lm-eval would fork this process, threads of torch and all
MAX_GEN_TOKS = 256  # lm-eval's, where a task does not say
# The geometric mean of a text's probability, a byte: exp(nats / bytes), from 0 to 1 as all scores
# are. lm-eval's bits_per_byte is its negative logarithm to the base 2, over all texts at once.
BYTE_PROBABILITY = "byte_probability"
LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")


@dataclass(frozen=True)
class Loaded:
    """What one name of lm-eval stands for: a task, or a group or tag of several.

    `identity` is what tells it from any other: lm-eval's version, each task's version, the digest
    of its whole configuration and of all that is asked.
    """

    name: str
    tasks: Mapping[str, Any]
    num_fewshot: int | None
    limit: int | None
    unsafe_code: bool
    cache: Path
    identity: Mapping[str, Any]


def load_tasks(
    name: str,
    *,
    cache: Path,
    path: Path | None = None,
    num_fewshot: int | None = None,
    limit: int | None = None,
    unsafe_code: bool = False,
) -> Loaded:
    """Find a task by its name, get its data and write out its questions.

    `path` is a folder of tasks beside lm-eval's own, `cache` one for what `datasets` keeps.

    Raises:
        MissingExtra: lm-eval is not installed.
        EvalError: no such task, data that cannot be had, a task of pictures or sound, or one that
            runs code which models write, and nobody said that it may.
    """
    version = _version()
    with inside(cache):
        found = _found(name, path)
        for leaf, task in found.items():
            _require_safe(leaf, task, unsafe_code)
            _set_fewshot(task, num_fewshot)
        known = Loaded(name, found, num_fewshot, limit, unsafe_code, cache, {})
        identity = {
            "lm_eval": version,
            "num_fewshot": num_fewshot,
            "limit": limit,
            "tasks": {leaf: _identity(task, known) for leaf, task in sorted(found.items())},
        }
    return Loaded(name, found, num_fewshot, limit, unsafe_code, cache, identity)


def instances_of(task: Any, loaded: Loaded, lm: Any = None) -> list[Any]:
    """What is asked of a model by a task, in its order; with `lm` in that model's template.

    Raises:
        EvalError: the task's own code fails on its data.
    """
    task.set_fewshot_seed(seed=FEWSHOT_SEED)  # drawing examples moves it on
    templated: dict[str, Any] = {}
    if lm is not None:
        templated = {
            "apply_chat_template": True,
            "fewshot_as_multiturn": True,
            "chat_template": lm.apply_chat_template,
            "tokenizer_name": lm.tokenizer_name,
        }
    try:
        task.build_all_requests(limit=loaded.limit, **templated)
    except (ValueError, LookupError, TypeError) as error:
        raise EvalError(
            f"lm-eval cannot write out the questions of {task.config.task}", found=str(error)
        ) from error
    instances: list[Any] = task.instances
    return instances


def row_id(instance: Any) -> str:
    """The id of a question: the task's name and the number of its row in the task's data."""
    return f"{instance.task_name}/{instance.doc_id}"


def questions_of(loaded: Loaded) -> list[dict[str, Any]]:
    """The rows of `prompts.jsonl`: what stands before the answer, and the answer wanted."""
    rows = []
    for leaf, task in loaded.tasks.items():
        first: dict[int, Any] = {}
        for instance in instances_of(task, loaded):
            first.setdefault(instance.doc_id, instance)
        for instance in first.values():
            rows.append(
                {
                    "id": row_id(instance),
                    "group": row_id(instance),
                    "domain": leaf if len(loaded.tasks) > 1 else None,
                    "messages": [{"role": "user", "content": str(instance.args[0])}],
                    "target": _target(task, instance.doc),
                }
            )
    return rows


def metrics_of(loaded: Loaded) -> list[str]:
    """Metrics that are means over rows, as lm-eval names them, without `,none`.

    Of whole texts, which have none, the one that rows can have: see BYTE_PROBABILITY.

    Raises:
        EvalError: there is none.
    """
    from lm_eval.api.metrics import mean

    names: dict[str, None] = {}
    for task in loaded.tasks.values():
        if task.OUTPUT_TYPE == "loglikelihood_rolling":
            names[BYTE_PROBABILITY] = None
        better = task.higher_is_better()
        for metric, aggregation in task.aggregation().items():
            if aggregation is mean and better.get(metric):
                names |= dict.fromkeys(metric_name(metric, f) for f in _filters(task))
    if not names:
        told = {metric for task in loaded.tasks.values() for metric in task.aggregation()}
        raise EvalError(
            f"the task {loaded.name} has no metric that single rows have",
            found=", ".join(sorted(told)),
            fix="a task with a metric that is a mean over its rows, as acc or exact_match",
        )
    return list(names)


def metric_name(metric: str, filter_name: str) -> str:
    """A metric's name; one that is taken from filtered answers says how they were filtered."""
    return metric if filter_name == "none" else f"{metric},{filter_name}"


def longest_answer(loaded: Loaded) -> int:
    """Tokens at which answers are cut off; 0 where nothing is written, only weighed."""
    told = [
        task.get_config("generation_kwargs") or {}
        for task in loaded.tasks.values()
        if task.OUTPUT_TYPE == "generate_until"
    ]
    return max((answer_length(kwargs) for kwargs in told), default=0)


def answer_length(kwargs: Mapping[str, Any]) -> int:
    """Tokens at which an answer is cut off, by any of the names that tasks have for it."""
    given = (kwargs[name] for name in LENGTHS if kwargs.get(name) is not None)
    return int(next(given, MAX_GEN_TOKS))


@contextlib.contextmanager
def inside(cache: Path) -> Iterator[None]:
    """lm-eval at work: its seeds, its data in `cache`, no word to the Hub's counters, no bars.

    Afterwards all is as it was.
    """
    import datasets

    settings = {
        "HF_DATASETS_CACHE": cache / "datasets",
        "DOWNLOADED_DATASETS_PATH": cache / "datasets" / "downloads",
        "EXTRACTED_DATASETS_PATH": cache / "datasets" / "downloads" / "extracted",
        "HF_UPDATE_DOWNLOAD_COUNTS": False,
    }
    before = {name: getattr(datasets.config, name) for name in settings}
    state = random.getstate(), np.random.get_state(), torch.get_rng_state()
    loggers = [logging.getLogger(name) for name in ("lm_eval", "datasets")]
    levels = [logger.level for logger in loggers]
    bars = datasets.are_progress_bars_disabled()
    pools = os.environ.get(NO_POOL)
    os.environ[NO_POOL] = "1"
    try:
        _configure(settings)
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        datasets.disable_progress_bars()
        random.seed(SEEDS["random_seed"])
        np.random.seed(SEEDS["numpy_random_seed"])
        torch.manual_seed(SEEDS["torch_random_seed"])
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        _configure(before)
        if pools is None:
            del os.environ[NO_POOL]
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if not bars:
            datasets.enable_progress_bars()
        random.setstate(state[0])
        np.random.set_state(state[1])
        torch.set_rng_state(state[2])


def _configure(settings: Mapping[str, Any]) -> None:
    import datasets

    for name, value in settings.items():
        setattr(datasets.config, name, value)


def _version() -> str:
    """lm-eval's version.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        import lm_eval
    except ImportError as error:
        raise MissingExtra(
            "tasks of the lm-evaluation-harness need the extra `eval`",
            found=str(error),
            fix=INSTALL,
        ) from error
    return importlib.metadata.version(lm_eval.__name__)


@cache
def _manager(path: Path | None, *, defaults: bool) -> Any:
    """An index of tasks: of a folder, or of lm-eval's own, which are thousands of files."""
    from lm_eval.tasks import TaskManager

    return TaskManager(include_path=None if path is None else str(path), include_defaults=defaults)


def _found(name: str, path: Path | None) -> dict[str, Any]:
    """The tasks that a name stands for: those of the folder go before lm-eval's own.

    Raises:
        EvalError: none, or their data cannot be had.
    """
    own = None if path is None else _manager(path, defaults=False)
    manager = own if own is not None and name in own.all_tasks else _manager(None, defaults=True)
    if name not in manager.all_tasks:
        near = nearest(name, [*manager.all_tasks, *(own.all_tasks if own is not None else [])])
        raise EvalError(
            f"lm-eval has no task {name!r}",
            found=f"the nearest name is {near}" if near else None,
            fix="a name of `lm_eval ls tasks`, or --tasks-path FOLDER with a task of your own",
        )
    try:
        found: dict[str, Any] = manager.load([name])["tasks"]
    except (OSError, ValueError, LookupError, TypeError, ImportError) as error:
        raise EvalError(
            f"lm-eval cannot load the task {name}",
            found=f"{type(error).__name__}: {error}",
            fix="its data is fetched from the Hub, or read from the files that the task names",
        ) from error
    return found


def _require_safe(name: str, task: Any, unsafe_code: bool) -> None:
    if getattr(task, "UNSAFE_CODE", False) and not unsafe_code:
        raise EvalError(
            f"the task {name} runs code that the model writes, on this machine",
            fix="in a container of its own: --unsafe-code",
        )
    if getattr(task, "MULTIMODAL", False):
        raise EvalError(f"the task {name} asks about pictures or sound, and models here read text")


def _set_fewshot(task: Any, wanted: int | None) -> None:
    """As lm-eval's command line does: a task that says 0 is left at 0."""
    own = task.get_config("num_fewshot")
    if wanted is not None and own != 0:
        task.set_config(key="num_fewshot", value=wanted)
    elif own is None:
        task.set_config(key="num_fewshot", value=0)


def _identity(task: Any, loaded: Loaded) -> dict[str, Any]:
    """What tells a task from any other: its version, its configuration, what it asks."""
    asked = [
        [instance.request_type, instance.doc_id, instance.idx, list(instance.args)]
        for instance in instances_of(task, loaded)
    ]
    targets = {str(instance.doc_id): _target(task, instance.doc) for instance in task.instances}
    return {
        "version": str(task.VERSION),
        "config_sha256": _digest(_portable(_config(task))),
        "requests_sha256": _digest(_portable([asked, targets])),
    }


def _config(task: Any) -> dict[str, Any]:
    """The whole configuration, without the file that it was read from."""
    config: dict[str, Any] = task.dump_config()
    metadata = config.get("metadata") or {}
    own = {name: value for name, value in metadata.items() if name != "config_source"}
    return {**config, "metadata": own}


def _portable(value: Any) -> Any:
    """A configuration as JSON, without places: a file by its digest, code by its text or name."""
    if isinstance(value, Mapping):
        return {str(key): _portable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_portable(item) for item in value]
    if isinstance(value, str):
        return _file_digest(value) or value
    if value is None or isinstance(value, bool | int | float):
        return value
    return getattr(value, "__qualname__", type(value).__qualname__)


def _file_digest(text: str) -> str | None:
    """Of a file's absolute path: what the file holds."""
    if not text.startswith("/") or "\n" in text or not Path(text).is_file():
        return None
    return f"sha256:{sha256_file(Path(text))}"


def _digest(value: Any) -> str:
    # Not canonical JSON: a configuration may hold NaN, or half a surrogate pair.
    return sha256_bytes(json.dumps(value, sort_keys=True).encode())


def _target(task: Any, doc: Any) -> str:
    """The answer wanted, in words: of several choices the right one's text."""
    target = task.doc_to_target(doc)
    if task.OUTPUT_TYPE == "multiple_choice" and isinstance(target, int):
        choices: Sequence[Any] = task.doc_to_choice(doc)
        return str(choices[target]) if 0 <= target < len(choices) else ""
    return target if isinstance(target, str) else canonical_json(_portable(target)).decode()


def _filters(task: Any) -> list[str]:
    return [each.name for each in getattr(task, "_filters", [])] or ["none"]
