"""How much memory a training takes: counted from the sizes of its tensors, checked by measuring.

A pass keeps, for each token, what its backward pass reads again. Counted from the two engines' own
code, with D the model's width, F the MLP's, H heads of width W on K key heads, R the rank, N the
keys that a token is compared with, and v bytes a value of the products, a layer keeps

    8 D                                    the residual stream before each of its norms, float32
    v (H W + 7 R)                          what goes into the output's product, and each `x A^T`
    v (2 D + F)                            what goes into the other products: generic alone
    v (H W + 2 K W + H N)                  query, key, value and the attention's probabilities
    v F x 2 (fused), 3 (generic)           inside the MLP

A document is compared in blocks of 256 queries, each with the keys up to its last (lm.documents);
one of more than 1,024 tokens keeps no probabilities. With checkpointing only the stream before
each layer is kept, and one layer at a time is as above.

Imports no torch, so that a question about memory costs no seconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

if TYPE_CHECKING:
    from nexa.core.records import DatasetBody
    from nexa.train.batches import Batch, TokenRow
    from nexa.train.executor import Executor
    from nexa.train.spec import TrainSpec

EngineName = Literal["generic", "fused"]
Method = Literal["lora", "qlora", "dora", "full"]

# Tokens of one pass. 2,048 are about 3 % slower than 4,096 (generic; docs/log.md) and take 1.2 GB
# less (fused, by the model below), on SmolLM2-135M and two cores.
LARGEST_MICRO_TOKENS, SMALLEST_MICRO_TOKENS = 4096, 512
PASS_SHARE = 0.5  # of the machine's whole memory, for the activations of one pass

# As in lm.documents and train.losses, which import torch.
KEPT_UP_TO, QUERY_BLOCK, CHUNK_LOGITS = 1024, 256, 1 << 24

# Measured on SmolLM2-135M in bfloat16, rank 16, AdamW, pages kept, a process for each figure, with
# other work on the machine. What a forward pass leaves in use, in kB a token, documents of 64, 256,
# 1,024 and 2,048 tokens:
#   fused    -    558  770    -     counted 456  560  767    421
#   generic  717  815  1,033  683   counted 709  813  1,020  675
# The peak of the process in GB, passes of 512, 1,024, 2,048 and 4,096 tokens, documents of 256:
#   fused    1.18  1.51  2.11  3.34   told 1.30  1.59  2.19  3.38
#   generic  1.62  2.41  3.51  5.40   told 1.81  2.31  3.33  5.36
# All weights by the generic engine, 512 tokens: 3.80, told 3.88.
# So the model errs by 5 %, for passes of 512 tokens by 12 %, where it tells too much. These are
# peaks of the engine alone, with 450 and 750 MB for its process; a whole `nexa train` of LoRA took
# 0.7 GB more (the quick start 2.5 GB, 16 rows of GSM8K a step 3.75 GB): that is what is told here.
PROCESS_BYTES: Mapping[EngineName, int] = {"fused": 1_100_000_000, "generic": 1_200_000_000}
PASS_HOLES: Mapping[EngineName, float] = {"fused": 1.04, "generic": 1.22}  # of what a pass keeps
LOGITS_BYTES = 12  # a value of a chunk of logits: bfloat16, float32 twice, bfloat16
MLP_COPIES: Mapping[EngineName, int] = {"fused": 2, "generic": 3}
ADAPTED_INPUTS = 7  # linear layers of a block, each with its `x A^T`
FLOAT_BYTES = 4
# Of AdamW and the others, a trained value: the moments.
MOMENT_BYTES = {"adamw": 8, "sgd": 0, "adafactor": 0, "adamw8bit": 2}
# NF4 with double quantisation: 4 bits, 8 bits a block of 64, 32 a block of 256 blocks.
# Dettmers et al. 2023, arXiv:2305.14314.
NF4_BYTES = (4 + 8 / 64 + 32 / (64 * 256)) / 8

# The same number under the names that architectures give it.
NAMES = {
    "layers": ("num_hidden_layers", "n_layer", "num_layers"),
    "width": ("hidden_size", "n_embd", "d_model"),
    "mlp": ("intermediate_size", "n_inner", "ffn_dim"),
    "heads": ("num_attention_heads", "n_head", "num_heads"),
    "key_heads": ("num_key_value_heads",),
    "head_width": ("head_dim",),
    "vocabulary": ("vocab_size",),
}


# Architectures that the fused engine computes (lm.decoder), by config.json.
FUSED = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")


@dataclass(frozen=True)
class Sizes:
    """A decoder's sizes, as far as its memory goes."""

    layers: int
    width: int
    mlp: int
    heads: int
    key_heads: int
    head_width: int
    vocabulary: int
    tied: bool

    @property
    def linear_values(self) -> int:
        """Weights of the linear layers of a Llama-like block, all blocks."""
        attention = 2 * self.width * self.head_width * (self.heads + self.key_heads)
        return self.layers * (attention + 3 * self.width * self.mlp)

    @property
    def parameters(self) -> int:
        """All weights but the few of norms and biases."""
        return self.linear_values + self.embedding_values

    @property
    def embedding_values(self) -> int:
        """Weights of the embedding, and of the head where it has its own."""
        return self.vocabulary * self.width * (1 if self.tied else 2)

    @property
    def adapter_ends(self) -> int:
        """The inputs and outputs of all linear layers: an adapter has so many values a rank."""
        query, key = self.heads * self.head_width, self.key_heads * self.head_width
        attention = 4 * self.width + 2 * query + 2 * key
        return self.layers * (attention + 3 * (self.width + self.mlp))


def sizes_of(config: Mapping[str, Any]) -> Sizes:
    """The sizes that a config.json tells; what it leaves out is as most models have it."""
    text = {**config, **(config.get("text_config") or {})}

    def told(name: str) -> int | None:
        return next((int(text[key]) for key in NAMES[name] if text.get(key)), None)

    width = cast(int, told("width"))
    heads = told("heads") or max(1, width // 64)
    return Sizes(
        layers=cast(int, told("layers")),
        width=width,
        mlp=told("mlp") or 4 * width,
        heads=heads,
        key_heads=told("key_heads") or heads,
        head_width=told("head_width") or width // heads,
        vocabulary=told("vocabulary") or 0,
        tied=bool(text.get("tie_word_embeddings", True)),
    )


@dataclass(frozen=True)
class MemoryModel:
    """What one training holds, and what a pass of it adds."""

    sizes: Sizes
    engine: EngineName
    value_bytes: int  # of a number in the products: 2 in bfloat16, 4 in float32
    parameters: int  # of the whole model
    trained: int  # values that the optimiser moves
    rank: int  # of the adapter; 0: all weights are trained
    optimizer: str = "adamw"
    quantized: bool = False
    padded: bool = False  # each batch to its longest row
    correction: float = 1.0  # of what a pass keeps, by what was measured

    @property
    def held_bytes(self) -> int:
        """Weights, and of what is trained the gradients and the optimiser's moments."""
        moved = self.trained * (2 * FLOAT_BYTES + MOMENT_BYTES[self.optimizer])
        if self.rank == 0:  # float32 masters are what is trained; beside them a copy to multiply
            return moved + self.parameters * (self.value_bytes % FLOAT_BYTES)
        embedding = min(self.sizes.embedding_values, self.parameters)
        linear_bytes = NF4_BYTES if self.quantized else self.value_bytes
        linear = (self.parameters - embedding) * linear_bytes
        return moved + embedding * self.value_bytes + int(linear)

    def bytes_a_token(self, own: int, before: int = 0) -> float:
        """What a pass keeps of one token of a document of `own` tokens, `before` shared ones."""
        return self.correction * self.sizes.layers * self._layer(own, before)

    def _layer(self, own: int, before: int) -> float:
        s, v = self.sizes, self.value_bytes
        query, key = s.heads * s.head_width, s.key_heads * s.head_width
        values: float = (
            2 * query + ADAPTED_INPUTS * self.rank + 2 * key + MLP_COPIES[self.engine] * s.mlp
        )
        if self.engine == "generic":
            values += 2 * s.width + s.mlp
        if own + before <= KEPT_UP_TO:
            values += s.heads * (before + (own + own / -(-own // QUERY_BLOCK)) / 2)
        return 8 * s.width + v * values

    def rows_bytes_a_token(self, lengths: Sequence[int]) -> float:
        """The mean of `bytes_a_token` over all tokens of rows of these lengths."""
        return sum(n * self.bytes_a_token(n) for n in lengths) / max(1, sum(lengths))

    def pass_bytes(self, batch: Batch, *, checkpointing: bool = False) -> int:
        """What one pass keeps for its way back."""
        kept = sum(n * self.bytes_a_token(n, before) for n, before in self._pieces(batch))
        if checkpointing:
            tokens = sum(n for n, _ in self._pieces(batch))
            kept = kept / self.sizes.layers + tokens * 8 * self.sizes.layers * self.sizes.width
        return int(kept)

    def _pieces(self, batch: Batch) -> Iterator[tuple[int, int]]:
        """The tokens of each piece of a batch, and of what is shared before it."""
        longest = max(batch.lengths)
        for number, length in enumerate(batch.lengths):
            tokens = longest if self.padded else length
            yield tokens, batch.prefix if number else 0

    def peak_bytes(self, batch: Batch, *, checkpointing: bool = False) -> int:
        """The most that a process holds whose largest pass is this one."""
        return self._peak(self.pass_bytes(batch, checkpointing=checkpointing), len(batch.targets))

    def peak_bytes_of(self, lengths: Sequence[int], tokens: float) -> int:
        """The same for a pass of `tokens` tokens, of rows as long as these."""
        return self._peak(tokens * self.rows_bytes_a_token(lengths), tokens)

    def _peak(self, kept: float, labels: float) -> int:
        logits = min(labels * self.sizes.vocabulary, CHUNK_LOGITS) * LOGITS_BYTES
        process, holes = PROCESS_BYTES[self.engine], PASS_HOLES[self.engine]
        return int(process + self.held_bytes + logits + holes * kept)


def model_of(
    spec: TrainSpec,
    config: Mapping[str, Any],
    *,
    engine: EngineName,
    precision: str,
    parameters: int | None = None,
    trained: int | None = None,
    padded: bool = False,
) -> MemoryModel:
    """The model of one training; what is not known yet is counted from `config`."""
    sizes, adapter = sizes_of(config), spec.adapter
    whole = parameters or sizes.parameters
    rank = adapter.rank if adapter else 0
    return MemoryModel(
        sizes=sizes,
        engine=engine,
        value_bytes=2 if precision == "bfloat16" else 4,
        parameters=whole,
        trained=trained or (rank * sizes.adapter_ends if adapter else whole),
        rank=rank,
        optimizer=spec.optimizer.name,
        quantized=spec.quantize is not None,
        padded=padded,
    )


def method_of(spec: TrainSpec) -> Method:
    """The method by the name that a user gives it."""
    if spec.adapter is None:
        return "full"
    if spec.quantize is not None:
        return "qlora"
    return "dora" if spec.adapter.dora else "lora"


def likely_engine(architecture: str, method: str, asked: str = "auto") -> EngineName:
    """Which engine a training will most likely take; `train.engines` decides it by trying.

    `method` is lora, qlora, dora or full.
    """
    fits = method == "lora" and architecture in FUSED
    return "fused" if fits and asked != "generic" else "generic"


def model_for(spec: TrainSpec, executor: Executor, precision: str) -> MemoryModel:
    """The model of a training whose executor is there."""
    return model_of(
        spec,
        executor.config,
        engine=executor.way.engine,
        precision=precision,
        trained=sum(p.numel() for p in executor.adapters()),
        padded=executor.way.layout == "padded",
    )


def resolve_micro_tokens(
    asked: int | None, model: MemoryModel, rows: Sequence[TokenRow], memory_bytes: int
) -> int:
    """Tokens of one pass: the most there should be, or the largest half of it that fits.

    The budget is a half of the machine's whole memory, not of what is free now: the choice must
    not differ between two runs. A limit of the user's is kept by `accumulate`, which halves.
    """
    if asked is not None:
        return asked
    a_token = PASS_HOLES[model.engine] * model.rows_bytes_a_token([len(row.ids) for row in rows])
    tokens = LARGEST_MICRO_TOKENS
    while tokens > SMALLEST_MICRO_TOKENS and tokens * a_token > PASS_SHARE * memory_bytes:
        tokens //= 2
    return tokens


def ahead_bytes(spec: TrainSpec, dataset: DatasetBody, precision: str) -> int:
    """What `core.allocator.prefault` should take before anything is loaded: a usual pass.

    A row of the middle length stands for all; nothing is taken that a usual step would not fill.
    """
    length = min(dataset.length_quantiles.get("p50", 0), dataset.max_length)
    if not length:
        return 0
    architecture = (spec.model.config.get("architectures") or [""])[0]
    engine = likely_engine(architecture, method_of(spec), spec.engine)
    tokens = min(spec.micro_tokens or LARGEST_MICRO_TOKENS, spec.rows_per_step * length)
    model = model_of(spec, spec.model.config, engine=engine, precision=precision)
    wanted = int(tokens * model.bytes_a_token(length))
    if spec.memory_limit is None:
        return wanted
    return max(0, min(wanted, spec.memory_limit - PROCESS_BYTES[engine] - model.held_bytes))
