from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from nexa.core.errors import ModelError
from nexa.lm import adapters
from nexa.lm.adapters import LoraSpec, attach
from nexa.lm.load import load, release
from nexa.lm.resolve import ModelFiles, resolve
from nexa.train.batches import Batch, TokenRow, lay
from nexa.train.executor import Executor
from nexa.train.fused import FusedExecutor, fault, fused, shared_prefix
from nexa.train.generic import generic
from nexa.train.spec import QuantizeSpec, TrainSpec
from tests.support.tiny import ARCHITECTURES, write_tiny_model
from tests.train.sample import random_rows

# PEFT asks transformers by a name that is on its way out.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")

ADAPTER = LoraSpec(rank=4, alpha=8.0)
ROWS = random_rows(6)


@pytest.fixture(scope="module", params=sorted(ARCHITECTURES))
def files(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A tiny model of each architecture; Llama and Qwen2 tied, the others not."""
    tied = request.param in ("llama", "qwen2")
    folder = tmp_path_factory.mktemp("models") / request.param
    yield lively(write_tiny_model(folder, request.param, tied=tied))
    release()


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelFiles]:
    yield lively(write_tiny_model(tmp_path_factory.mktemp("models") / "llama"))
    release()


def lively(folder: Path) -> ModelFiles:
    """The model with larger weights: at its start's 0.02, gradients of the attention are noise."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.endswith("norm.weight"):
                parameter.normal_(0, 0.15, generator=generator)
    model.save_pretrained(folder)
    return resolve(str(folder))


def spec(files: ModelFiles, adapter: LoraSpec = ADAPTER, **changes: Any) -> TrainSpec:
    return TrainSpec(files, **{"lora": adapter, "precision": "float32", "seed": 3, **changes})


def stirred(executor: Executor) -> Executor:
    """B is not zero."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in zip(executor.names(), executor.adapters(), strict=True):
            if ".lora_B." in name:
                parameter.normal_(0, 0.05, generator=generator)
    return executor


def started(
    files: ModelFiles, adapter: LoraSpec = ADAPTER, precision: str = "float32"
) -> FusedExecutor:
    """The fused executor with an adapter that is not zero."""
    executor = fused(spec(files, adapter), adapter, ROWS, precision)
    stirred(executor)
    return executor


def loss_and_gradients(executor: Executor, batches: list[Batch]) -> dict[str, Tensor]:
    """Summed over the batches."""
    total = torch.zeros(())
    for batch in batches:
        loss, count = executor.forward_loss(batch)
        assert count == len(batch.targets)
        loss.backward()
        total += loss.detach()
    found = {"loss": total}
    for name, parameter in zip(executor.names(), executor.adapters(), strict=True):
        assert parameter.grad is not None
        found[name], parameter.grad = parameter.grad, None
    return found


def assert_equal(a: dict[str, Tensor], b: dict[str, Tensor], tolerance: float = 1e-5) -> None:
    assert list(a) == list(b)
    far = {n: float((a[n] - b[n]).norm() / b[n].norm()) for n in a}
    assert max(far.values()) <= tolerance, max(far.items(), key=lambda item: item[1])


def plain_peft(files: ModelFiles, adapter: Path) -> dict[str, Tensor]:
    """Each row alone through transformers and PEFT, with torch's own loss on whole logits."""
    base: PreTrainedModel = AutoModelForCausalLM.from_pretrained(files.folder, dtype=torch.float32)
    model = peft.PeftModel.from_pretrained(base, adapter, is_trainable=True).eval()
    total = torch.zeros(())
    for row in ROWS:
        labels = torch.tensor([i if t else -100 for i, t in zip(row.ids, row.trained, strict=True)])
        logits = model(input_ids=torch.tensor([row.ids])).logits[0, :-1]
        total = total + nn.functional.cross_entropy(logits, labels[1:], reduction="sum")
    total.backward()
    grads = {
        name.replace(".default", ""): p.grad
        for name, p in model.named_parameters()
        if p.grad is not None
    }
    return {"loss": total.detach(), **grads}


@pytest.mark.parametrize(
    "adapter",
    [
        ADAPTER,
        LoraSpec(rank=4, alpha=8.0, rslora=True, target_modules=("q_proj", "down_proj")),
        LoraSpec(
            rank=4,
            alpha=8.0,
            rank_pattern={"q_proj": 2, "layers.1.mlp.up_proj": 6},
            alpha_pattern={"q_proj": 3.0},
        ),
    ],
)
def test_plain_peft_reads_what_it_saves_and_gives_the_same_loss_and_gradients(
    files: ModelFiles, adapter: LoraSpec, tmp_path: Path
) -> None:
    executor = started(files, adapter)
    adapters.write(tmp_path, executor.state(), adapter, files.ref)
    theirs = plain_peft(files, tmp_path)
    ours = loss_and_gradients(executor, [lay(ROWS)])
    assert set(ours) == set(theirs)
    assert_equal(ours, {name: theirs[name] for name in ours})


def test_both_engines_start_alike_and_give_the_same(files: ModelFiles) -> None:
    model = load(files, dtype="float32").model
    lora = attach(model, ADAPTER, seed=3)
    ours = fused(spec(files), ADAPTER, ROWS, "float32")
    with generic(model, lora, ROWS) as theirs:
        assert ours.names() == theirs.names()
        assert all(torch.equal(a, theirs.state()[n]) for n, a in ours.state().items())
        for executor in (ours, theirs):
            stirred(executor)
        parts = [lay(ROWS[:4]), lay(ROWS[4:])]
        assert_equal(loss_and_gradients(ours, parts), loss_and_gradients(theirs, parts))
        ids = ROWS[0].ids
        assert torch.allclose(ours.logits(ids), theirs.logits(ids), atol=1e-4)
    lora.detach()


def test_a_saved_adapter_goes_on_a_model_of_transformers(llama: ModelFiles, tmp_path: Path) -> None:
    executor = started(llama)
    adapters.write(tmp_path, executor.state(), ADAPTER, llama.ref)
    model = load(llama, dtype="float32").model
    loaded = adapters.load(model, tmp_path)
    with torch.no_grad():
        theirs = model(input_ids=torch.tensor([ROWS[0].ids])).logits[0]
    loaded.detach()
    assert torch.allclose(executor.logits(ROWS[0].ids), theirs, atol=1e-4)


def beginning_alike() -> list[TokenRow]:
    """The rows after a beginning that they share."""
    begin = [5, 9, 13, 17, 21, 25]
    return [
        TokenRow(row.row_id, begin + row.ids, [False] * len(begin) + row.trained) for row in ROWS
    ]


def test_a_shared_beginning_laid_once_changes_nothing(files: ModelFiles) -> None:
    executor, rows = started(files), beginning_alike()
    shared = lay(rows, share_prefix=True)
    assert shared.prefix >= 6
    assert sum(shared.lengths) < sum(lay(rows).lengths)
    whole = loss_and_gradients(executor, [lay(rows)])
    assert_equal(loss_and_gradients(executor, [shared]), whole)


def test_rows_together_equal_rows_alone(files: ModelFiles) -> None:
    executor = started(files)
    together = loss_and_gradients(executor, [lay(ROWS)])
    assert_equal(together, loss_and_gradients(executor, [lay([row]) for row in ROWS]))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_loss_is_a_pure_function_of_weights_and_batch(
    llama: ModelFiles, precision: str
) -> None:
    """Bit for bit, whatever was computed before, and with its activations computed again."""
    first, second = started(llama, precision=precision), started(llama, precision=precision)
    results = [loss_and_gradients(first, [lay(ROWS)])]
    first.forward_loss(lay(ROWS[:1]))
    results.append(loss_and_gradients(first, [lay(ROWS)]))
    second.checkpointing = True
    assert second.checkpointing
    with second.evaluating():
        second.logits(ROWS[1].ids)
    results.append(loss_and_gradients(second, [lay(ROWS)]))
    for other in results[1:]:
        assert all(torch.equal(other[name], tensor) for name, tensor in results[0].items())


def test_bfloat16_is_near_float32(llama: ModelFiles) -> None:
    exact = loss_and_gradients(started(llama), [lay(ROWS)])
    short = loss_and_gradients(started(llama, precision="bfloat16"), [lay(ROWS)])
    assert float(short["loss"]) == pytest.approx(float(exact["loss"]), rel=5e-3)
    assert_equal(short, exact, tolerance=0.1)


def test_the_way_says_how_it_runs(llama: ModelFiles) -> None:
    executor = fused(spec(llama), ADAPTER, ROWS, "float32", compiled=True, reason="because")
    assert (executor.way.engine, executor.way.engine_reason) == ("fused", "because")
    assert (executor.way.layout, executor.way.head) == ("flat", "label-only head")
    assert (executor.way.attention, executor.way.kernels) == ("probabilities kept", "compiled")
    assert executor.config["model_type"] == "llama"
    assert started(llama).way.kernels == "plain"


def test_a_target_that_fits_nothing_is_named(llama: ModelFiles) -> None:
    for target in (("q_porj",), r".*norm"):
        adapter = LoraSpec(target_modules=target)
        with pytest.raises(ModelError, match="no linear layer is named"):
            fused(spec(llama, adapter), adapter, ROWS, "float32")
    adapter = LoraSpec(target_modules=r".*\.0\..*attn.*")
    with pytest.raises(ModelError, match="fits modules that cannot"):
        fused(spec(llama, adapter), adapter, ROWS, "float32")
    adapter = LoraSpec(target_modules=r".*\.0\..*[qk]_proj")
    assert len(fused(spec(llama, adapter), adapter, ROWS, "float32").pairs) == 2


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"lora": LoraSpec(dropout=0.1)}, "dropout"),
        ({"lora": LoraSpec(dora=True)}, "DoRA"),
        ({"method": "full", "lora": None}, "not all weights"),
        ({"quantize": QuantizeSpec()}, "quantised base"),
    ],
)
def test_what_it_does_not_run_is_said(
    llama: ModelFiles, changes: dict[str, Any], named: str
) -> None:
    assert fault(spec(llama)) is None
    against = fault(spec(llama, **changes))
    assert against is not None
    assert named in against


def test_an_architecture_that_it_does_not_know_is_said(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "m")
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"silu"', '"gelu"'))
    against = fault(spec(resolve(str(folder))))
    assert against == "the fused decoder does not compute this configuration: hidden_act: gelu"


def test_a_model_with_code_of_its_own_is_left_to_transformers(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "m")
    config = folder / "config.json"
    (folder / "own.py").write_text("")
    config.write_text(
        config.read_text().replace("{", '{"auto_map": {"AutoModelForCausalLM": "own.Own"},', 1)
    )
    against = fault(spec(resolve(str(folder), trust_remote_code=True)))
    assert against == "the model brings Python code of its own"


def test_a_beginning_is_shared_where_it_saves_a_twentieth_of_the_tokens() -> None:
    rows = beginning_alike()
    prefix = lay(rows, share_prefix=True).prefix
    assert shared_prefix(rows, rows_per_step=6, micro_tokens=4096) == prefix
    assert shared_prefix(rows, rows_per_step=6, micro_tokens=30) == 0  # a row a batch
    assert shared_prefix(rows, rows_per_step=1, micro_tokens=4096) == 0
    assert shared_prefix(rows[:1], rows_per_step=6, micro_tokens=4096) == 0
    assert shared_prefix(ROWS, rows_per_step=6, micro_tokens=4096) == 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_learns_as_the_processor_does(llama: ModelFiles) -> None:
    """The same executor; `fused` puts it where a GPU is, so the processor's is moved there."""
    executor = started(llama)
    assert executor.decoder.device.type == "cuda"
    there = loss_and_gradients(executor, [lay(ROWS)])
    assert float(there["loss"]) > 0
    optimizer = torch.optim.AdamW(executor.adapters(), lr=1e-3, fused=True)
    loss, _ = executor.forward_loss(lay(ROWS))
    loss.backward()
    optimizer.step()
    assert float(executor.forward_loss(lay(ROWS))[0]) < float(loss)
