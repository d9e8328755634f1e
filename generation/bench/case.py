"""What one engine is asked to write in its own process, and what it measured."""

import json
import os
import resource
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from generation.engines.values import Request, SamplingParams

Write = Callable[[list[Request]], list[int]]  # writes all of them; each story's number of tokens
TICKS = os.sysconf("SC_CLK_TCK")


class Wrong(RuntimeError):
    """The figures cannot be believed; the message says why."""


@dataclass(frozen=True)
class Case:
    """started: time.time() when the process was started. natural: stories end by themselves."""

    model: str
    prompts: tuple[str, ...]
    stories: int
    tokens: int
    natural: bool
    batch: int
    temperature: float
    top_p: float
    min_p: float
    seed: int
    vllm_python: str
    started: float = 0.0

    def requests(self) -> list[Request]:
        places = [prompt for prompt in self.prompts for _ in range(self.stories)]
        return [Request(key, prompt, self._sampling(self.seed + key)) for key, prompt in enumerate(places)]

    def _sampling(self, seed: int) -> SamplingParams:
        return SamplingParams(self.temperature, self.top_p, self.min_p, seed, self.tokens)

    def warm_up(self) -> "Case":
        """A little of the same."""
        return replace(self, prompts=self.prompts[:2], tokens=min(self.tokens, 8))

    @classmethod
    def read(cls, path: Path) -> "Case":
        found = json.loads(path.read_text())
        return cls(**{**found, "prompts": tuple(found["prompts"])})


@dataclass
class Measured:
    """start_seconds: from the process's start until it can write. The rest is of the writing alone,
    child processes counted; peak_memory_mb is the sum of the processes' own peaks."""

    version: str
    stories: int
    tokens: int
    cpu_seconds: float
    wall_seconds: float
    start_seconds: float
    peak_memory_mb: float

    @property
    def tokens_per_cpu_second(self) -> float:
        return self.tokens / self.cpu_seconds

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> "Measured":
        return cls(**json.loads(path.read_text()))


def measure(case: Case, write: Write, version: str) -> Measured:
    """Call it when `write` is ready. Raises Wrong for stories of another length than was asked for."""
    ready = time.time()
    write(case.warm_up().requests())
    cpu, wall = cpu_seconds(), time.perf_counter()
    counts = write(case.requests())
    cpu, wall = cpu_seconds() - cpu, time.perf_counter() - wall
    wanted = len(case.prompts) * case.stories
    if len(counts) != wanted or not (case.natural or all(count == case.tokens for count in counts)):
        raise Wrong(
            f"{len(counts)} stories of {min(counts, default=0)} to {max(counts, default=0)} tokens were written"
        )
    return Measured(version, wanted, sum(counts), cpu, wall, ready - case.started, peak_memory_mb())


def cpu_seconds() -> float:
    """Of this process and all that it has started, those that have ended included."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime + sum(map(_cpu_of, descendants(os.getpid())))


def peak_memory_mb() -> float:
    """The peaks of this process and of those under it that are alive."""
    return sum(map(_peak_of, [os.getpid(), *descendants(os.getpid())]))


def descendants(process: int) -> list[int]:
    found: list[int] = []
    for path in Path(f"/proc/{process}/task").glob("*/children"):
        for child in map(int, _text(path).split()):
            found += [child, *descendants(child)]
    return found


def _cpu_of(process: int) -> float:
    fields = _text(Path(f"/proc/{process}/stat")).rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / TICKS  # its own and its ended children's, user and system


def _peak_of(process: int) -> float:
    lines = _text(Path(f"/proc/{process}/status")).splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def _text(path: Path) -> str:
    """Empty when the process is gone."""
    try:
        return path.read_text()
    except OSError:
        return ""
