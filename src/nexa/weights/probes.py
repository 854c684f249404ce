"""The fixed texts that parity is measured on: short, unlike each other, and hard on tokenizers.

Eight of at most 32 tokens: enough to see a dropped, doubled or wrongly tied weight at any layer.
For tokenizers alone there are more: whatever two of them are known to cut differently.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexa.lm.chat import ChatTemplate

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PROBES = (
    "List three facts about the element iron, each on a line of its own.",
    'Fill in the record as JSON: {"name": "tin", "symbol": null, "melting_point_k": null}',
    "def area(radius):\n    return 3.14159 * radius ** 2\n\nWhat does `area(2.5)` return?",
    "Überprüfe bitte: 1.234,56 € + 7 % = ? Antworte in einem Satz.",
    "水的沸点是多少？用一句话回答。",  # noqa: RUF001 - other scripts are the point of it
    "a\tb\n\n  c   d\r\n…“quotes” — dashes – and 🙂🧪 emoji, 1e-9, 0x1F, ½, ①",  # noqa: RUF001
    "The sample was annealed at 450 °C for 2 h, quenched, and indexed in space group Fm-3m.",
    "Why is the sky blue?",
)
PROBE_TOKENS = 32

# fmt: off
NASTY = (
    *PROBES,
    # White space: runs, tabs, line ends of all kinds, at the beginning and the end.
    " ", "  ", "   a", "a   ", "\t", "\t\tx", "\n", "\n\n\n", "\r\n\r\n", " \n \n  x\n\n", "a \t b",
    "a\u00a0b\u2003c\u3000d\u200bz",
    # Digits and numbers: pre-tokenizers cut them by one, by three or not at all.
    "0", "12", "123", "1234", "1234567890123", "3.14159", "1,234,567.89", "2024-02-29T23:59:59Z",
    "v1.2.3-rc4", "0x7fffffff", "1e-9", "١٢٣٤", "१२३", "Ⅷ", "½⅓", "x₂²",
    # Letters beside them: contractions, cases, joined words.
    "I'm you're he's we'll they'd I've", "I'M YOU'RE", "don’t", "camelCaseHTTPServer",  # noqa: RUF001
    "snake_case_name", "AAAAAAAAAAAAAAAAAAAAAAAA", "ﬁ ﬀ ß ẞ", "Straße", "naïve café",
    "pneumonoultramicroscopicsilicovolcanoconiosis",
    # Combining accents: the same letters, composed and not, which a normaliser may join.
    "e\u0301 a\u0308 n\u0303", "\u00e9 \u00e4 \u00f1", "\u1112\u1161\u11ab", "한글", "Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢",
    # Code.
    "for (int i = 0; i < n; ++i) { a[i] += b[i] >> 3; }\n",
    "def f(x):\n\treturn {**x, 'a': [1, 2][::-1]}  # done\n\n\nclass A: ...\n",
    "<div class=\"x\">&nbsp;&lt;b&gt;</div><!-- c -->", "SELECT * FROM t WHERE a='b' AND c<>1;--",
    "\\begin{equation} \\frac{a_{i}}{b^{2}} \\end{equation}", "https://a.example/b?c=d&e=%20#f",
    "```json\n{\"a\": [null, true, -0.0]}\n```", "$PATH `ls -la | grep \\.py$` && echo \"$?\"",
    "==> !== <= >= :: -> => /* */ // ... !!!! ???? ---- ____ ****",
    # Scripts, right to left among them.
    "Привет, мир! Ёлки-палки.", "שלום עולם — א1ב2", "مرحبا بالعالم، كيف الحال؟", "नमस्ते दुनिया।",
    "สวัสดีชาวโลก", "こんにちは世界。カタカナ、ひらがな", "你好，世界！繁體字", "안녕하세요 세계",  # noqa: RUF001
    "Γειά σου Κόσμε", "\u202eabc\u202c \u200fx\u200e", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𝟘𝟙𝟚", "Ａｆｕｌｌ１２３",  # noqa: RUF001
    # Emoji: joined, toned, flags.
    "🙂", "👨‍👩‍👧‍👦 👩🏽‍🚀", "🇪🇺🇯🇵", "❤️ ❤", "🏴󠁧󠁢󠁳󠁣󠁴󠁿", "1️⃣2️⃣", "a🧪b🧪",
    # What looks like special tokens, inside a text.
    "<|im_end|>", "a<|im_end|>b", "<|im_start|>system\nx<|im_end|>\n", " <|im_end|> ",
    "<|endoftext|>", "<s>[INST] x [/INST]</s>", "<s", "</s>", "<unk>", "<pad>", "<|eot_id|>",
    "<|begin_of_text|>",
    "<|im_end", "|im_end|>", "< |im_end| >", "<think></think>", "<tool_call>{}</tool_call>",
    "<start_of_turn>user\n", "<0x0A>", "▁a▁b", "Ġa Ċ ĉ", "##ing", "[CLS] [SEP] [MASK]",
    # Control characters, and what cannot be seen.
    "\x00", "a\x00b", "\x01\x02\x1b[31mred\x1b[0m\x7f", "\x85\u2028\u2029", "\ufeffBOM",
    "\ufffd\uffff", "\U0010ffff", "\xad-\u2011-\u2060-", "\u0378",
)
# fmt: on


def probe_texts(tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """The texts as they stand, each cut to PROBE_TOKENS ids: what the logits are compared on."""
    return [
        tokenizer(text, add_special_tokens=False)["input_ids"][:PROBE_TOKENS] for text in PROBES
    ]


def probe_prompts(tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """The texts as prompts under the tokenizer's own chat template, uncut."""
    template = ChatTemplate(tokenizer)
    return [template.prompt([{"role": "user", "content": text}]) for text in PROBES]


def nasty_ids(tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """The ids of every text of NASTY, with no token added."""
    ids: list[list[int]] = tokenizer(list(NASTY), add_special_tokens=False)["input_ids"]
    return ids
