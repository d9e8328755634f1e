"""The license of a model, as its own folder states it."""

import re
from pathlib import Path

KNOWN = (
    (r"apache license,?\s+version 2\.0", "apache-2.0"),
    (r"\bmit license\b|permission is hereby granted, free of charge", "mit"),
    (r"creative commons attribution[- ]noncommercial[- ]sharealike 4\.0", "cc-by-nc-sa-4.0"),
    (r"creative commons attribution[- ]noncommercial 4\.0", "cc-by-nc-4.0"),
    (r"creative commons attribution[- ]sharealike 4\.0", "cc-by-sa-4.0"),
    (r"creative commons attribution 4\.0", "cc-by-4.0"),
    (r"gnu affero general public license\s+version 3", "agpl-3.0"),
    (r"gnu general public license\s+version 3", "gpl-3.0"),
    (r"redistributions in binary form must reproduce", "bsd-3-clause"),
    (r"llama 3\.2 community license", "llama3.2"),
    (r"llama 3\.1 community license", "llama3.1"),
    (r"gemma terms of use", "gemma"),
)  # the Hub's identifiers
HEAD = 20_000  # characters of a file that are read


def stated_license(directory: Path) -> str:
    """The Hub's identifier of the license: from the front matter of README.md, else from the words of LICENSE.

    "other" for a LICENSE that is not known here; "" if nothing is said.
    """
    return _from_card(directory / "README.md") or _from_text(directory)


def _from_card(path: Path) -> str:
    front = re.match(r"---\s*\n(.*?)\n---", _read(path), re.DOTALL)
    found = (
        re.search(r"^license:[ \t]*(?:\n[ \t]*-[ \t]*)?[\"']?([A-Za-z0-9.+-]+)", front[1], re.MULTILINE)
        if front
        else None
    )
    return found[1].lower() if found else ""


def _from_text(directory: Path) -> str:
    for path in sorted(directory.glob("LICEN[SC]E*")):
        words = re.sub(r"\s+", " ", _read(path).lower())
        return next((name for pattern, name in KNOWN if re.search(pattern, words)), "other")
    return ""


def _read(path: Path) -> str:
    try:
        with path.open(errors="replace") as file:
            return file.read(HEAD)
    except OSError:
        return ""
