"""Write a software bill of materials, CycloneDX 1.6: what Storyloop runs on, at which version, under which licence.

The packages are those that pyproject.toml asks for, and what they ask for, as this environment has them; besides them
the scripts of static/vendor. The same environment gives the same file. Usage: .venv/bin/python tools/sbom.py [FILE]
"""

import hashlib
import json
import re
import sys
import tomllib
import uuid
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import quote

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
VENDOR = ROOT / "static" / "vendor"
NAMESPACE = uuid.UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8")  # of URLs, RFC 9562

sys.path.insert(0, str(ROOT))

from generation.version import VERSION  # noqa: E402


def bill() -> dict[str, Any]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    direct = _names(project["dependencies"], {""})
    extras_of: dict[str, set[str]] = {}
    needs_of: dict[str, list[str]] = {}
    waiting = list(direct.items())
    while waiting:
        name, extras = waiting.pop()
        if name in extras_of and extras <= extras_of[name]:
            continue
        extras_of[name] = extras | extras_of.get(name, set())
        needs = _names(metadata.requires(name) or [], {"", *extras_of[name]})
        needs_of[name] = sorted(needs)
        waiting += needs.items()
    parts = {name: _component(name) for name in sorted(extras_of)}
    scripts = [_script(path) for path in sorted(VENDOR.glob("*.js"))]
    refs = {name: one["bom-ref"] for name, one in parts.items()}
    ours = {"type": "application", "bom-ref": "storyloop", "name": "storyloop", "version": VERSION}
    document: dict[str, Any] = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {**ours, "licenses": [{"expression": project["license"]}]}},
        "components": [*parts.values(), *scripts],
        "dependencies": [
            {"ref": "storyloop", "dependsOn": sorted([refs[n] for n in direct] + [one["bom-ref"] for one in scripts])},
            *({"ref": refs[name], "dependsOn": [refs[need] for need in needs_of[name]]} for name in parts),
        ],
    }
    serial = uuid.uuid5(NAMESPACE, json.dumps(document, sort_keys=True))
    return {"serialNumber": f"urn:uuid:{serial}", **document}


def _names(lines: list[str], extras: set[str]) -> dict[str, set[str]]:
    """{package: its extras} of requirements that hold here."""
    found: dict[str, set[str]] = {}
    for wanted in map(Requirement, lines):
        if wanted.marker is None or any(wanted.marker.evaluate({"extra": extra}) for extra in extras):
            found.setdefault(canonicalize_name(wanted.name), set()).update(wanted.extras)
    return found


def _component(name: str) -> dict[str, Any]:
    version, known = metadata.version(name), metadata.metadata(name)
    purl = f"pkg:pypi/{name}@{quote(version)}"
    said = known["License-Expression"] or ""
    classes = [line.split(" :: ")[-1] for line in known.get_all("Classifier") or [] if line.startswith("License ::")]
    licences: list[dict[str, Any]] = [{"expression": said}] if said else []
    if not said:
        short = (known["License"] or "").strip().splitlines()[:1]  # some put the whole text there
        licences = [{"license": {"name": one}} for one in classes or short]
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl,
            "licenses": licences}  # fmt: skip


def _script(path: Path) -> dict[str, Any]:
    found = re.match(r"([A-Za-z]+)-(\d[\d.]*\d)\.", path.name)
    if not found:
        raise SystemExit(f"{path.name}: the name of a script in static/vendor says its version, like Chart-4.6.1.js")
    name, version = found.groups()
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"type": "library", "bom-ref": path.name, "name": name, "version": version,
            "hashes": [{"alg": "SHA-256", "content": digest}], "licenses": [{"license": {"id": "MIT"}}]}  # fmt: skip


def main() -> None:
    path = Path(sys.argv[1]) if sys.argv[1:] else ROOT / "dist" / f"storyloop-{VERSION}.cdx.json"
    path.parent.mkdir(exist_ok=True)
    found = bill()
    path.write_text(json.dumps(found, indent=1) + "\n")
    print(f"{path}: {len(found['components'])} components")


if __name__ == "__main__":
    main()
