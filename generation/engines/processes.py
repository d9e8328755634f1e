"""Child processes that must not outlive the one that started them."""

import contextlib
import ctypes
import io
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1  # prctl(2), Linux
LIBC = ctypes.CDLL(None)  # here: between fork and exec of a process with threads nothing may be loaded


def start(
    command: Sequence[str],
    *,
    log: Path,
    directory: Path,
    environment: Mapping[str, str] | None = None,
    capture: bool = False,
    feed: bool = False,
) -> subprocess.Popen[str]:
    """Start `command` in a session of its own, its output appended to `log`.

    With `capture` its standard output is a pipe instead, with `feed` its standard input is one. If
    this process is killed, the kernel kills the child: an orphan would keep the GPU.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE if feed else subprocess.DEVNULL,
            stdout=subprocess.PIPE if capture else output,
            stderr=output,
            text=True,
            cwd=directory,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509  only one prctl, before any thread of ours
        )


def stop(process: subprocess.Popen[str], *, grace: float = 5.0) -> None:
    """Ask the process's whole group to end, and kill what is left of it after `grace` seconds."""
    _signal_group(process, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=grace)
    _signal_group(process, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe:
            with contextlib.suppress(BrokenPipeError):  # what was not read is lost with its reader
                pipe.close()


def last_words(log: Path, lines: int = 3) -> str:
    """The end of a log, for a message to a person."""
    if not log.exists():
        return "(no output)"
    found = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return " ".join(found[-lines:]) or "(no output)"


def _signal_group(process: subprocess.Popen[str], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)  # the leader's id is the group's: start_new_session


def die_with_parent() -> None:
    """Have the kernel kill this process when the one that started it is gone."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class _WhatFits(io.FileIO):
    """A file that drops what its disk has no room for, where another would raise."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError:
            return len(data)


def log_what_fits() -> None:
    """From now on a log on a full disk ends nothing: neither a line of this process, nor its exit status.

    For the start of a program whose standard error is its log.
    """
    if sys.stderr and not sys.stderr.isatty():
        raw: Any = _WhatFits(2, "w", closefd=False)
        sys.stderr = io.TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace", write_through=True)
