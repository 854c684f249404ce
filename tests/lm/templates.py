"""The well-known chat formats, each written here from its description, in our own words.

A `Format` is a jinja template with the special tokens it needs; `tokenizer_for` gives a real
byte-level tokenizer that has them.
"""

from __future__ import annotations

import string
from dataclasses import dataclass, replace

from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True)
class Format:
    """One chat format: its template, its special tokens and what an answer ends with.

    `system` says what becomes of a system turn: a turn of its `own`, `folded` into the first user
    turn, `refused` by the template, or `dropped` by it in silence, which Nexa refuses.
    """

    template: str | None
    special: tuple[str, ...]
    eos: str
    end: str
    bos: str | None = None
    lead: str = ""
    several_answers: bool = True
    trims: bool = False
    system: str = "own"
    adds_bos: bool = False

    def trained(self, answer: str) -> str:
        """What must bear loss of one answer: what the template writes of it, and its end."""
        return self.lead + (answer.strip() if self.trims else answer) + self.end


CHATML = Format(
    "{%- for m in messages -%}<|im_start|>{{ m.role + '\n' + m.content }}<|im_end|>{{ '\n' }}"
    "{%- endfor -%}{%- if add_generation_prompt -%}<|im_start|>assistant{{ '\n' }}{%- endif -%}",
    ("<|im_start|>", "<|im_end|>", "<|endoftext|>"),
    eos="<|im_end|>",
    end="<|im_end|>",
)
# As SmolLM2's: a system turn of its own when the conversation does not begin with one.
CHATML_WITH_DEFAULT_SYSTEM = Format(
    "{%- if messages[0].role != 'system' -%}"
    "<|im_start|>system{{ '\n' }}You are a helpful model named Ada<|im_end|>{{ '\n' }}{%- endif -%}"
    + str(CHATML.template),
    CHATML.special,
    eos="<|im_end|>",
    end="<|im_end|>",
)
LLAMA3 = Format(
    "{{- bos_token -}}{%- for m in messages -%}"
    "<|start_header_id|>{{ m.role }}<|end_header_id|>{{ '\n\n' + m.content | trim }}<|eot_id|>"
    "{%- endfor -%}{%- if add_generation_prompt -%}"
    "<|start_header_id|>assistant<|end_header_id|>{{ '\n\n' }}{%- endif -%}",
    (
        "<|begin_of_text|>",
        "<|end_of_text|>",
        "<|start_header_id|>",
        "<|end_header_id|>",
        "<|eot_id|>",
    ),
    bos="<|begin_of_text|>",
    eos="<|end_of_text|>",
    end="<|eot_id|>",
    trims=True,
)
# As Llama 3.1's: today's date in the system turn.
LLAMA3_DATED = Format(
    "{{- bos_token -}}<|start_header_id|>system<|end_header_id|>{{ '\n\n' }}"
    'Today: {{ strftime_now("%d %b %Y") }}<|eot_id|>'
    + str(LLAMA3.template).removeprefix("{{- bos_token -}}"),
    LLAMA3.special,
    bos=LLAMA3.bos,
    eos=LLAMA3.eos,
    end=LLAMA3.end,
    trims=True,
)
GEMMA = Format(
    "{{ bos_token }}{%- if messages[0].role == 'system' -%}"
    "{{ raise_exception('there is no system role') }}{%- endif -%}"
    "{%- for m in messages -%}<start_of_turn>"
    "{{ ('model' if m.role == 'assistant' else m.role) + '\n' + m.content | trim }}<end_of_turn>"
    "{{ '\n' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}<start_of_turn>model{{ '\n' }}{%- endif -%}",
    ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"),
    bos="<bos>",
    eos="<eos>",
    end="<end_of_turn>",
    trims=True,
    system="refused",
)
# As Gemma 3's: the system text stands at the head of the first user turn.
GEMMA_FOLDED = Format(
    "{{ bos_token }}{%- set ns = namespace(first='') -%}"
    "{%- for m in messages -%}{%- if m.role == 'system' -%}"
    "{%- set ns.first = m.content | trim + '\n\n' -%}{%- else -%}<start_of_turn>"
    "{{ ('model' if m.role == 'assistant' else m.role) + '\n' }}"
    "{%- if m.role == 'user' -%}{{ ns.first }}{%- set ns.first = '' -%}{%- endif -%}"
    "{{ m.content | trim }}<end_of_turn>{{ '\n' }}{%- endif -%}{%- endfor -%}"
    "{%- if add_generation_prompt -%}<start_of_turn>model{{ '\n' }}{%- endif -%}",
    GEMMA.special,
    bos=GEMMA.bos,
    eos=GEMMA.eos,
    end=GEMMA.end,
    trims=True,
    system="folded",
)
MISTRAL = Format(
    "{{- bos_token -}}{%- for m in messages -%}{%- if m.role == 'user' -%}"
    "[INST]{{ m.content }}[/INST]{%- elif m.role == 'assistant' -%}{{ m.content + eos_token }}"
    "{%- else -%}{{ raise_exception('only user and assistant turns') }}{%- endif -%}{%- endfor -%}",
    ("<s>", "</s>", "[INST]", "[/INST]"),
    bos="<s>",
    eos="</s>",
    end="</s>",
    system="refused",
)
# As Mistral's third: the markers are tokens, a blank follows each, and texts stay as they are.
MISTRAL_V3 = Format(
    "{{- bos_token -}}{%- for m in messages -%}{%- if m.role == 'user' -%}"
    "[INST]{{ ' ' + m.content }}[/INST]{%- elif m.role == 'assistant' -%}"
    "{{ ' ' + m.content + eos_token }}{%- else -%}"
    "{{ raise_exception('only user and assistant turns') }}{%- endif -%}{%- endfor -%}",
    MISTRAL.special,
    bos="<s>",
    eos="</s>",
    end="</s>",
    lead=" ",
    system="refused",
)
# As the first Mistral's: a space around each text, and a system text that is dropped in silence.
MISTRAL_SPACED = Format(
    "{{- bos_token -}}{%- for m in messages -%}{%- if m.role == 'user' -%}"
    "[INST] {{ m.content }} [/INST]{%- elif m.role == 'assistant' -%}"
    "{{ ' ' + m.content | trim + eos_token }}{%- endif -%}{%- endfor -%}",
    ("<s>", "</s>"),
    bos="<s>",
    eos="</s>",
    end="</s>",
    lead=" ",
    trims=True,
    system="dropped",
)
# As Llama 2's: BOS before every question, the system text inside the first one.
LLAMA2 = Format(
    "{%- set ns = namespace(first='') -%}{%- for m in messages -%}{%- if m.role == 'system' -%}"
    "{%- set ns.first = '<<SYS>>\n' + m.content + '\n<</SYS>>\n\n' -%}"
    "{%- elif m.role == 'user' -%}{{ bos_token + '[INST] ' + ns.first + m.content.strip() }}"
    " [/INST]{%- set ns.first = '' -%}{%- else -%}{{ ' ' + m.content.strip() + ' ' + eos_token }}"
    "{%- endif -%}{%- endfor -%}",
    ("<s>", "</s>"),
    bos="<s>",
    eos="</s>",
    end=" </s>",
    lead=" ",
    trims=True,
    system="folded",
)
# As Phi-3's: the whole text ends with one more token when no answer is asked for.
PHI = Format(
    "{%- for m in messages -%}<|{{ m.role }}|>{{ '\n' + m.content }}<|end|>{{ '\n' }}"
    "{%- endfor -%}{%- if add_generation_prompt -%}<|assistant|>{{ '\n' }}"
    "{%- else -%}{{ eos_token }}{%- endif -%}",
    ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|endoftext|>"),
    eos="<|endoftext|>",
    end="<|end|>",
)
# As Qwen3's: only the last answer carries its thought, an empty one if it has none.
QWEN_THINKING = Format(
    "{%- set ns = namespace(last=0) -%}"
    "{%- for m in messages -%}{%- if m.role == 'user' -%}{%- set ns.last = loop.index0 -%}"
    "{%- endif -%}{%- endfor -%}"
    "{%- for m in messages -%}<|im_start|>{{ m.role + '\n' }}"
    "{%- if m.role == 'assistant' -%}"
    "{%- set thought = m.content.split('</think>')[0].removeprefix('<think>').strip('\n')"
    " if '</think>' in m.content else '' -%}"
    "{%- set said = m.content.split('</think>')[-1].lstrip('\n') -%}"
    "{%- if loop.index0 > ns.last -%}{{ '<think>\n' + thought + '\n</think>\n\n' }}{%- endif -%}"
    "{{ said }}{%- else -%}{{ m.content }}{%- endif -%}<|im_end|>{{ '\n' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}<|im_start|>assistant{{ '\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false -%}"
    "{{ '<think>\n\n</think>\n\n' }}{%- endif -%}{%- endif -%}",
    (*CHATML.special, "<think>", "</think>"),
    eos="<|im_end|>",
    end="<|im_end|>",
    several_answers=False,
)
# As DeepSeek's: no line breaks, the system text bare at the beginning.
DEEPSEEK = Format(
    "{{- bos_token -}}{%- for m in messages -%}{%- if m.role == 'system' -%}{{ m.content }}"
    "{%- elif m.role == 'user' -%}{{ '<｜User｜>' + m.content }}"  # noqa: RUF001
    "{%- else -%}{{ '<｜Assistant｜>' + m.content + eos_token }}{%- endif -%}"  # noqa: RUF001
    "{%- endfor -%}{%- if add_generation_prompt -%}{{ '<｜Assistant｜>' }}{%- endif -%}",  # noqa: RUF001
    ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>"),  # noqa: RUF001
    bos="<｜begin▁of▁sentence｜>",  # noqa: RUF001
    eos="<｜end▁of▁sentence｜>",  # noqa: RUF001
    end="<｜end▁of▁sentence｜>",  # noqa: RUF001
)
# As DeepSeek-R1's: an answer loses its thought in history, and the prompt opens a new one.
DEEPSEEK_R1 = Format(
    str(DEEPSEEK.template)
    .replace("m.content + eos_token", "m.content.split('</think>')[-1] + eos_token")
    .replace("'<｜Assistant｜>' }}{%- endif", "'<｜Assistant｜><think>\n' }}{%- endif"),  # noqa: RUF001
    DEEPSEEK.special,
    bos=DEEPSEEK.bos,
    eos=DEEPSEEK.eos,
    end=DEEPSEEK.end,
)
# As Phi-4's: a separator of its own between role and text.
PHI4 = Format(
    "{%- for m in messages -%}<|im_start|>{{ m.role }}<|im_sep|>{{ m.content }}<|im_end|>"
    "{%- endfor -%}{%- if add_generation_prompt -%}<|im_start|>assistant<|im_sep|>{%- endif -%}",
    (*CHATML.special, "<|im_sep|>"),
    eos="<|im_end|>",
    end="<|im_end|>",
)
ZEPHYR = Format(
    "{%- for m in messages -%}<|{{ m.role }}|>{{ '\n' + m.content + eos_token + '\n' }}"
    "{%- endfor -%}{%- if add_generation_prompt -%}<|assistant|>{{ '\n' }}{%- endif -%}",
    ("<unk>", "<s>", "</s>"),
    bos="<s>",
    eos="</s>",
    end="</s>",
)
# As TinyLlama's: Zephyr's template, which leaves BOS to a tokenizer that puts it before each text.
ZEPHYR_BOS = replace(ZEPHYR, adds_bos=True)
NONE = Format(None, ("<|endoftext|>",), eos="<|endoftext|>", end="<|endoftext|>")

FORMATS = {
    "chatml": CHATML,
    "chatml-default-system": CHATML_WITH_DEFAULT_SYSTEM,
    "llama3": LLAMA3,
    "llama3-dated": LLAMA3_DATED,
    "llama2": LLAMA2,
    "gemma": GEMMA,
    "gemma-folded": GEMMA_FOLDED,
    "mistral": MISTRAL,
    "mistral-v3": MISTRAL_V3,
    "mistral-spaced": MISTRAL_SPACED,
    "phi": PHI,
    "phi4": PHI4,
    "deepseek": DEEPSEEK,
    "qwen-thinking": QWEN_THINKING,
    "zephyr": ZEPHYR,
    "zephyr-bos": ZEPHYR_BOS,
    "none": NONE,
}


def tokenizer_for(
    form: Format,
    *,
    merges: tuple[tuple[str, str], ...] = (),
    options: dict[str, bool] | None = None,
    eos: str | None = "",
) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer that knows a format's special tokens; every text round-trips.

    `merges` are pairs of byte-level symbols (the newline is `Ċ`) that it joins; `options` go to
    the special tokens (`lstrip`, `rstrip`, `single_word`).
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {symbol: i for i, symbol in enumerate(alphabet)}
    for left, right in merges:
        vocabulary[left + right] = len(vocabulary)
    raw = Tokenizer(models.BPE(vocab=vocabulary, merges=list(merges)))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens(
        [AddedToken(token, normalized=False, **(options or {})) for token in form.special]
    )
    if form.adds_bos:
        bos = str(form.bos)
        raw.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, raw.token_to_id(bos))]
        )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token=form.eos if eos == "" else eos, bos_token=form.bos
    )
    fast.chat_template = form.template
    return fast


def word_marking_tokenizer(form: Format) -> PreTrainedTokenizerFast:
    """A tokenizer in SentencePiece's manner, learnt from a few words: a mark begins each word."""
    raw = Tokenizer(models.BPE(unk_token=None, byte_fallback=False))
    raw.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    raw.decoder = decoders.Metaspace(prepend_scheme="first")
    trainer = trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=sorted(string.printable), show_progress=False
    )
    raw.train_from_iterator(["It is iron. Its symbol is Fe, as ever. What melts?"] * 4, trainer)
    raw.add_special_tokens([AddedToken(token, normalized=False) for token in form.special])
    fast = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token=form.eos, bos_token=form.bos)
    fast.chat_template = form.template
    return fast
