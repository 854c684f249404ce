"""The well-known chat formats, each written here from its description, in our own words.

A `Format` is a jinja template with the special tokens it needs; `tokenizer_for` gives a real
byte-level tokenizer that has them.
"""

from __future__ import annotations

from dataclasses import dataclass

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True)
class Format:
    """One chat format: its template, its special tokens and what an answer ends with."""

    template: str | None
    special: tuple[str, ...]
    eos: str
    end: str
    bos: str | None = None
    lead: str = ""
    several_answers: bool = True


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
)
MISTRAL = Format(
    "{{- bos_token -}}{%- for m in messages -%}{%- if m.role == 'user' -%}"
    "[INST]{{ m.content }}[/INST]{%- elif m.role == 'assistant' -%}{{ m.content + eos_token }}"
    "{%- else -%}{{ raise_exception('only user and assistant turns') }}{%- endif -%}{%- endfor -%}",
    ("<s>", "</s>", "[INST]", "[/INST]"),
    bos="<s>",
    eos="</s>",
    end="</s>",
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
ZEPHYR = Format(
    "{%- for m in messages -%}<|{{ m.role }}|>{{ '\n' + m.content + eos_token + '\n' }}"
    "{%- endfor -%}{%- if add_generation_prompt -%}<|assistant|>{{ '\n' }}{%- endif -%}",
    ("<unk>", "<s>", "</s>"),
    bos="<s>",
    eos="</s>",
    end="</s>",
)
NONE = Format(None, ("<|endoftext|>",), eos="<|endoftext|>", end="<|endoftext|>")

FORMATS = {
    "chatml": CHATML,
    "chatml-default-system": CHATML_WITH_DEFAULT_SYSTEM,
    "llama3": LLAMA3,
    "llama3-dated": LLAMA3_DATED,
    "gemma": GEMMA,
    "mistral": MISTRAL,
    "mistral-spaced": MISTRAL_SPACED,
    "phi": PHI,
    "qwen-thinking": QWEN_THINKING,
    "zephyr": ZEPHYR,
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
    fast = PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token=form.eos if eos == "" else eos, bos_token=form.bos
    )
    fast.chat_template = form.template
    return fast
