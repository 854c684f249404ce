r"""Characters that nobody means: mended, and the row stays.

`\r\n` and `\r` become `\n`; so do a form feed and a vertical tab. Control characters go, with the
rest of the terminal sequence that they begin; those from 80 to 9F are read as what Windows wrote
there, as browsers do. Text is composed (NFC), so that an accent is not two tokens in one row and
one in the next. Clean rows are not touched, not even their bytes.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence

from nexa.core.config_filters import NormaliseSection
from nexa.data.filters.base import Verdict
from nexa.data.filters.texts import with_texts
from nexa.data.rows import Row

REASON = "normalised"

# All control characters but the tab and \n, and a byte order mark.
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ufeff]")
LINE_ENDS = re.compile(r"\r\n?|[\x0b\x0c]")
# ECMA-48: a control sequence, or an operating system command up to its end.
TERMINAL = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)")
TRAILING = re.compile(r"[ \t]+(?=\n|\Z)")

# WHATWG's table for numeric references from 80 to 9F.
WINDOWS = {code: bytes([code]).decode("cp1252", "ignore") for code in range(0x80, 0xA0)}

Mend = tuple[str, Callable[[str], str]]


def make(options: NormaliseSection) -> Normalise:
    """The filter."""
    return Normalise(options)


class Normalise:
    """Mends the texts of rows; what was mended is told by name."""

    def __init__(self, options: NormaliseSection) -> None:
        self._mends: list[Mend] = []
        if options.line_ends:
            self._mends.append(("line ends", lambda text: LINE_ENDS.sub("\n", text)))
        if options.controls:
            self._mends.append(("control characters", _without_controls))
        if options.compose:
            self._mends.append(("composed", lambda text: unicodedata.normalize("NFC", text)))
        self._trailing = options.trailing_blanks
        if options.trailing_blanks:
            self._mends.append(("trailing blanks", lambda text: TRAILING.sub("", text)))

    def __call__(self, rows: Sequence[Row]) -> list[Verdict | None]:
        """A verdict with the mended conversation for each row that is not clean."""
        return [self._verdict(row) for row in rows]

    def _verdict(self, row: Row) -> Verdict | None:
        content, mended, told = row.content, {}, dict[str, None]()
        for index, message in enumerate(content.messages):
            text = message["content"]
            if self._clean(text):
                continue
            for name, mend in self._mends:
                after = mend(text)
                if after != text:
                    text = after
                    told[name] = None
            if text != message["content"]:
                mended[index] = text
        if not mended:
            return None
        return Verdict(REASON, ", ".join(told), with_texts(content, mended))

    def _clean(self, text: str) -> bool:
        """Whether no mend changes it: the quick way out for nearly every text."""
        if self._trailing or CONTROLS.search(text):
            return False
        return text.isascii() or unicodedata.is_normalized("NFC", text)


def _without_controls(text: str) -> str:
    text = TERMINAL.sub("", text)
    # A mark inside a text joins words in some scripts' old files: only the first is a mark.
    text = text.removeprefix("\ufeff")
    return CONTROLS.sub(_windows, text)


def _windows(match: re.Match[str]) -> str:
    code = ord(match[0])
    return match[0] if code == 0xFEFF else WINDOWS.get(code, "")
