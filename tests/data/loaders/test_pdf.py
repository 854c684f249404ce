"""Pages of text become pieces; a page without text is a reject, a locked file an error."""

from __future__ import annotations

import gzip
import io
import logging
from pathlib import Path

import pytest
from pypdf import PdfReader, PdfWriter

from nexa.core.errors import DataError
from nexa.data.loaders import loader_for
from nexa.data.loaders.pdf import NO_TEXT, read_pdf
from nexa.data.rows import Line
from tests.data.pdf_file import PICTURE, pdf, said, written


def lines(folder: Path, data: bytes) -> list[Line]:
    path = folder / "paper.pdf"
    path.write_bytes(data)
    return list(read_pdf(path, "paper.pdf"))


def test_every_page_is_read_by_its_number(tmp_path: Path) -> None:
    found = lines(tmp_path, pdf([said("Iron", "melts"), "", said("Gold")]))
    assert [(line.origin, line.data) for line in found] == [
        ("paper.pdf:1", {"text": "Iron\nmelts"}),
        ("paper.pdf:3", {"text": "Gold"}),
    ]
    packed = tmp_path / "paper.pdf.gz"
    packed.write_bytes(gzip.compress((tmp_path / "paper.pdf").read_bytes()))
    assert list(loader_for(packed)(packed, "paper.pdf")) == found


def test_a_long_page_is_cut_as_a_text_is(tmp_path: Path) -> None:
    found = lines(tmp_path, pdf([said(*[f"line {n} of a long page" for n in range(200)])]))
    assert [line.origin for line in found] == ["paper.pdf:1", "paper.pdf:1[2]"]
    text = "\n".join(line.data["text"] for line in found if line.data)
    assert text.splitlines() == [f"line {n} of a long page" for n in range(200)]


def test_a_page_without_text_is_a_reject_and_a_file_of_them_an_error(tmp_path: Path) -> None:
    found = lines(tmp_path, pdf([said("Iron"), PICTURE]))
    assert (found[1].origin, found[1].data, found[1].problem) == ("paper.pdf:2", None, NO_TEXT)
    with pytest.raises(DataError, match=r"paper\.pdf has no text") as caught:
        lines(tmp_path, pdf([PICTURE, PICTURE]))
    assert caught.value.fix == "recognise the letters first: ocrmypdf paper.pdf text.pdf"
    with pytest.raises(DataError, match="has no text") as caught:
        lines(tmp_path, pdf([said("Iron") + " BT (never closed"]))
    assert "the page cannot be read" in str(caught.value.found)
    assert caught.value.fix == "fetch or write the file again"


def test_letters_without_names_are_a_reject(tmp_path: Path) -> None:
    font = b"<< /Type /Font /Subtype /Type1 /BaseFont /F /ToUnicode 6 0 R >>"
    names = b"1 beginbfchar <41> <D800> endbfchar"
    shown = said("A").encode()
    page = (
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] /Contents 5 0 R "
        b"/Resources << /Font << /F1 3 0 R >> >> >>"
    )
    data = written(
        {
            1: b"<< /Type /Catalog /Pages 2 0 R >>",
            2: b"<< /Type /Pages /Kids [4 0 R] /Count 1 >>",
            3: font,
            4: page,
            5: b"<< /Length %d >>\nstream\n%s\nendstream" % (len(shown), shown),
            6: b"<< /Length %d >>\nstream\n%s\nendstream" % (len(names), names),
        }
    )
    path = tmp_path / "paper.pdf"
    path.write_bytes(data)
    found = next(read_pdf(path, "paper.pdf"))
    assert found.data is None or "\ud800" not in found.data["text"]


def test_a_locked_file_is_refused_and_an_open_one_is_read(tmp_path: Path) -> None:
    for password in ("", "secret"):
        writer = PdfWriter(clone_from=PdfReader(io.BytesIO(pdf([said("Iron")]))))
        writer.encrypt(password, owner_password="owner", algorithm="AES-256")
        sink = io.BytesIO()
        writer.write(sink)
        if password:
            with pytest.raises(DataError, match="needs a password") as caught:
                lines(tmp_path, sink.getvalue())
            assert str(caught.value.fix).startswith("qpdf --decrypt")
        else:
            assert lines(tmp_path, sink.getvalue())[0].data == {"text": "Iron"}


def test_warnings_are_told_once_and_never_printed(
    tmp_path: Path, notes: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    found = lines(tmp_path, pdf([said("Iron")], kids="4 0 R 99 0 R"))
    assert len(found) == 1
    assert notes == ["paper.pdf: 1 warnings; the first: Object 99 0 not defined."]
    assert not caplog.records
    assert logging.getLogger("pypdf").propagate


def test_a_page_that_draws_itself_says_so(tmp_path: Path) -> None:
    resources = b"/Resources << /XObject << /X 6 0 R >> >>"
    stream = b"/Length 5 >>\nstream\n/X Do\nendstream"
    data = written(
        {
            1: b"<< /Type /Catalog /Pages 2 0 R >>",
            2: b"<< /Type /Pages /Kids [4 0 R] /Count 1 >>",
            4: b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] "
            + resources
            + b" /Contents 5 0 R >>",
            5: b"<< " + stream,
            6: b"<< /Type /XObject /Subtype /Form /BBox [0 0 1 1] " + resources + b" " + stream,
        }
    )
    path = tmp_path / "paper.pdf"
    path.write_bytes(data)
    found = next(read_pdf(path, "paper.pdf"))
    assert "Detected cyclic form XObject reference" in found.problem


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "is empty"),
        (b"plain text", "is not PDF"),
        (b"%PDF-1.4\n" + b"\xff" * 99, "is damaged, or not PDF"),
        (pdf([said("Iron")], kids="2 0 R"), "Detected cyclic page references"),
    ],
)
def test_what_is_no_pdf_says_what_it_is(tmp_path: Path, data: bytes, problem: str) -> None:
    with pytest.raises(DataError, match=problem):
        lines(tmp_path, data)
