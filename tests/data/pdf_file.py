"""PDF files made by hand, object by object: whole ones, and such as nobody should write."""

from __future__ import annotations

import zlib

FONT = "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"
SCRIPT = "<< /S /JavaScript /JS (app.alert\\('run'\\)) >>"
PICTURE = "q 10 0 0 10 0 0 cm BI /W 1 /H 1 /BPC 8 /CS /G ID \x00 EI Q"


def pdf(pages: list[str], *, catalog: str = "", kids: str | None = None, info: str = "") -> bytes:
    """A file whose pages have these content streams; "" is a blank page.

    `catalog` is added to the catalog; `kids` replaces the list of pages.
    """
    numbers = [4 + 2 * n for n in range(len(pages))]
    listed = " ".join(f"{number} 0 R" for number in numbers) if kids is None else kids
    objects = {
        1: f"<< /Type /Catalog /Pages 2 0 R {catalog} >>",
        2: f"<< /Type /Pages /Kids [{listed}] /Count {len(pages)} {info} >>",
        3: FONT,
    }
    for number, said in zip(numbers, pages, strict=True):
        contents = f"/Contents {number + 1} 0 R" if said else ""
        objects[number] = (
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] "
            f"/Resources << /Font << /F1 3 0 R >> >> {contents} >>"
        )
        objects[number + 1] = f"<< /Length {len(said)} >>\nstream\n{said}\nendstream"
    return written({number: text.encode("latin-1") for number, text in objects.items()})


def written(objects: dict[int, bytes]) -> bytes:
    """Objects as a file, with its table of where they stand."""
    out = b"%PDF-1.4\n"
    places = {}
    for number, body in objects.items():
        places[number] = len(out)
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (max(objects) + 1)
    for number in range(1, max(objects) + 1):
        free = number not in places
        out += b"%010d %05d %c \n" % (places.get(number, 0), 65535 if free else 0, b"nf"[free])
    trailer = b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n"
    return out + trailer % (max(objects) + 1, table)


def said(*lines: str) -> str:
    """A content stream that writes lines under each other."""
    shown = "".join(f"({line}) Tj 0 -14 Td\n" for line in lines)
    return f"BT /F1 12 Tf 72 720 Td\n{shown}ET"


def bomb(unpacked_bytes: int) -> bytes:
    """One page whose packed content is far longer than the file."""
    packed = zlib.compress(b" " * unpacked_bytes, 9)
    head = f"<< /Length {len(packed)} /Filter /FlateDecode >>\nstream\n".encode()
    return written(
        {
            1: b"<< /Type /Catalog /Pages 2 0 R >>",
            2: b"<< /Type /Pages /Kids [4 0 R] /Count 1 >>",
            4: b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] /Contents 5 0 R >>",
            5: head + packed + b"\nendstream",
        }
    )
