"""PDF: the text of its pages in pieces, each a row `{"text": ...}`; a row's number is its page.

A page's text is cut as that of a text file is. A page that has no text, a scanned one above all,
is a reject. Nothing in a file is run, neither its scripts nor its actions.
"""

from __future__ import annotations

import contextlib
import logging
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nexa.core import values
from nexa.core.errors import DataError
from nexa.core.events import emit
from nexa.core.identity import sha256_bytes
from nexa.data.loaders.opening import HEAD_BYTES, TextLine, empty, whole
from nexa.data.loaders.text import pieces
from nexa.data.rows import Line

if TYPE_CHECKING:
    from pypdf import PdfReader

MARK = b"%PDF-"  # within a file's first bytes; some have a line before it
NO_TEXT = "the page has no text: a picture, or letters that are drawn"


def read_pdf(path: Path, name: str) -> Iterator[Line]:
    """The pieces of a file, page by page.

    Raises:
        DataError: no such file, no PDF, one that needs a password, or one without any text.
    """
    pages = texts = 0
    first = "no pages"
    with whole(path) as file, _warnings(name) as told:
        reader = _open(file, path)
        for pages, said in enumerate(_pages(reader, path, told), start=1):
            for line in _lines(said, name, pages):
                if line.data is not None:
                    texts += 1
                elif not texts:
                    first = f"{line.origin}: {line.problem}"
                yield line
    if not texts:
        raise _without_text(path, first)


def _open(file: Any, path: Path) -> PdfReader:
    from pypdf import PasswordType, PdfReader

    head = file.read(HEAD_BYTES)
    if not head:
        raise empty(path)
    if MARK not in head:
        raise DataError(f"{path} is not PDF", found=f"it begins with {head[:8]!r}")
    file.seek(0)
    try:
        reader = PdfReader(file)
        locked = reader.is_encrypted and reader.decrypt("") == PasswordType.NOT_DECRYPTED
    except _faults() as error:
        raise _damaged(path, error) from error
    if locked:
        raise DataError(
            f"{path} needs a password",
            fix=f"qpdf --decrypt --password=PASSWORD {path.name} open.pdf",
        )
    return reader


def _pages(reader: PdfReader, path: Path, told: list[str]) -> Iterator[str | values.Refused]:
    """Every page's text, or why it has none."""
    try:
        count = len(reader.pages)
    except _faults() as error:
        raise _damaged(path, error) from error
    for number in range(count):
        before = len(told)
        try:
            page = reader.pages[number]
            said = page.extract_text()
            blank = not said.strip() and page.get_contents() is None
        except _faults() as error:
            yield values.Refused(f"the page cannot be read: {_first_line(error)}")
            continue
        if said.strip() or blank:
            yield said
        else:
            why = f" ({told[before]})" if len(told) > before else ""
            yield values.Refused(NO_TEXT + why)


def _lines(said: str | values.Refused, name: str, page: int) -> Iterator[Line]:
    """A page's pieces; the second and later are numbered."""
    if isinstance(said, values.Refused):
        yield Line(name, page, sha256_bytes(b""), None, str(said))
        return
    for element, piece in enumerate(pieces(_text_lines(said)), start=1):
        raw = b"\n".join(line.raw for line in piece).strip(b"\n")
        data: dict[str, Any] | None = None
        problem = ""
        try:
            data = {"text": raw.decode("utf-8")}
        except UnicodeDecodeError:
            problem = "half a surrogate pair: the page's letters have no names"
        digest = sha256_bytes(raw)
        yield Line(name, page, digest, data, problem, element if element > 1 else 0)


def _text_lines(said: str) -> Iterator[TextLine]:
    for number, text in enumerate(said.split("\n"), start=1):
        raw = text.rstrip("\r").encode("utf-8", "surrogatepass")
        yield TextLine(number, raw, "")


@contextlib.contextmanager
def _warnings(name: str) -> Iterator[list[str]]:
    """What pypdf warns of, kept from the terminal and told in one line at the end."""
    heard: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(record.getMessage())

    logger, listener = logging.getLogger("pypdf"), Listener()
    logger.addHandler(listener)
    before, logger.propagate = logger.propagate, False
    try:
        yield heard
    finally:
        logger.removeHandler(listener)
        logger.propagate = before
        if heard:
            emit("note", text=f"{name}: {len(heard)} warnings; the first: {heard[0][:200]}")


def _without_text(path: Path, found: str) -> DataError:
    scanned = NO_TEXT in found
    again = "fetch or write the file again"
    return DataError(
        f"{path} has no text",
        found=found,
        fix=f"recognise the letters first: ocrmypdf {path.name} text.pdf" if scanned else again,
    )


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(
        f"{path} is damaged, or not PDF",
        found=_first_line(error),
        fix="fetch or write the file again",
    )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200]


def _faults() -> tuple[type[Exception], ...]:
    """What pypdf raises for a file that is not as it should be; its own errors are a part of it."""
    from pypdf.errors import DependencyError, PyPdfError

    return (
        PyPdfError,
        DependencyError,
        ValueError,
        TypeError,
        AttributeError,
        LookupError,
        ArithmeticError,
        AssertionError,
        NotImplementedError,
        RecursionError,
        EOFError,
        struct.error,
        zlib.error,
    )
