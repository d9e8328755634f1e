"""CSV for people: their spreadsheet opens it, reads its Chinese, and runs nothing of it."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from django.http import StreamingHttpResponse

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet runs instead of showing


class _Echo:
    """A file that gives back what is written: csv writes into it, and the line is streamed."""

    def write(self, line: str) -> str:
        return line


def csv_response(rows: Iterable[Sequence[Any]], filename: str) -> StreamingHttpResponse:
    """The rows as a file to download, streamed."""
    response = StreamingHttpResponse(csv_lines(rows), content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{filename}"'
    return response


def csv_lines(rows: Iterable[Sequence[Any]]) -> Iterator[str]:
    """Begins with a byte order mark: spreadsheets take Chinese for something else without."""
    writer = csv.writer(_Echo())
    yield "\ufeff"
    for row in rows:
        yield writer.writerow([harmless(value) for value in row])


def harmless(value: Any) -> Any:
    """A text that a spreadsheet would run as a formula is put behind an apostrophe (OWASP, "CSV injection")."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
