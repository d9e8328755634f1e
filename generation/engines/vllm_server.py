"""Stories through running vLLM servers: spread over them, and asked for again when one fails."""

import time
from collections.abc import Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from generation.engines import loading
from generation.engines.values import LENGTH, STOP, TOO_LONG, Completion, EngineError, Request, Take, Weights
from generation.engines.vllm_fleet import AT_ONCE, FIRST_PAUSE, Fleet, Served
from generation.engines.vllm_http import Refused, ServerGone
from generation.engines.vllm_options import vllm_sampling

TRIES = 4  # of one story that a server fails on while it is well


@dataclass
class _Job:
    request: Request
    rendered: str
    ids: list[int]
    tries: int = 0
    at: Served | None = field(default=None, compare=False)


class VllmServerEngine:
    """An engine (see values.Engine) over vLLM servers; the arguments are Fleet's."""

    name = "vllm-server"

    def __init__(
        self,
        weights: Weights,
        urls: Sequence[str],
        *,
        api_key: str = "",
        scratch: Path,
        patience: float = 120.0,
        reload: bool = True,
    ) -> None:
        self._fleet = Fleet(weights, urls, api_key=api_key, scratch=scratch, patience=patience, reload=reload)
        self.weights_hash = self._fleet.identity
        self.tokenizer = loading.load_tokenizer(weights.directory)
        self.stops = loading.stop_token_ids(weights.directory, self.tokenizer)
        self.version = self._fleet.wait_for_one().server.version()
        self._pool = ThreadPoolExecutor((AT_ONCE + 1) * len(urls), thread_name_prefix="vllm")

    # --- writing ------------------------------------------------------------------------------------

    def write(self, take: Take) -> Generator[Completion]:
        """See values.Engine. A story that a dying server began is written by another: the seed is the same."""
        waiting: list[_Job] = []
        running: dict[Future[Completion], _Job] = {}
        for served in self._fleet.servers:
            served.in_flight = 0
            served.server.open_again()
        busy = time.monotonic()
        try:
            while True:
                room = AT_ONCE * len(self._fleet.servers) - len(waiting) - len(running)
                for request in take(max(room, 0)):
                    job = self._job(request)
                    if isinstance(job, Completion):
                        yield job
                    else:
                        waiting.append(job)
                if not waiting and not running:
                    return
                self._send(waiting, running)
                if not running:
                    self._wait_for_a_server(busy)
                    continue
                busy = time.monotonic()
                done, _ = wait(running, timeout=1.0, return_when=FIRST_COMPLETED)
                for future in done:
                    completion = self._result(future, running.pop(future), waiting)
                    if completion:
                        yield completion
        finally:
            if running:
                self._fleet.hang_up()

    def _job(self, request: Request) -> "_Job | Completion":
        rendered = loading.render_prompt(self.tokenizer, request.prompt)
        ids = loading.encode_prompt(self.tokenizer, rendered)
        # the server would answer 200, and cut the story at its limit
        if len(ids) + request.sampling.max_tokens > self._fleet.limit():
            return Completion(request.key, rendered, "", (), TOO_LONG, self.weights_hash)
        return _Job(request, rendered, ids)

    def _send(self, waiting: list[_Job], running: dict[Future[Completion], _Job]) -> None:
        """Give the waiting stories to the servers that are well, the least busy first."""
        self._fleet.prepare_due(self._pool.submit)
        while waiting:
            free = [s for s in self._fleet.servers if s.model and s.in_flight < AT_ONCE]
            if not free:
                return
            served, job = min(free, key=lambda s: s.in_flight), waiting.pop(0)
            served.in_flight += 1
            job.at = served
            running[self._pool.submit(self._complete, served, served.model, job)] = job

    def _wait_for_a_server(self, busy: float) -> None:
        """Raise EngineError if there will be none; busy: when one last had work."""
        if all(s.hopeless for s in self._fleet.servers) or time.monotonic() - busy > self._fleet.patience:
            raise EngineError(self._fleet.none_ready())
        time.sleep(FIRST_PAUSE)

    def _complete(self, served: Served, model: str, job: _Job) -> Completion:
        sampling: dict[str, Any] = {**vllm_sampling(job.request.sampling), "stop_token_ids": list(self.stops)}
        answer = served.server.complete(model, job.ids, sampling, logps=job.request.logps)
        self._fleet.check_writer(served, answer.model, model)
        ids = answer.token_ids
        ended = bool(ids) and ids[-1] in self.stops
        if not ended and len(ids) < job.request.sampling.max_tokens:
            # a server that is paused or ended answers 200 with what it has
            raise ServerGone(f"{served.server.url} broke a story off after {len(ids)} tokens ({answer.finish_reason}).")
        kept = ids[:-1] if ended else ids
        return Completion(
            key=job.request.key,
            rendered_prompt=job.rendered,
            text=self.tokenizer.decode(kept, skip_special_tokens=True).strip(),
            token_ids=tuple(kept),
            finish_reason=STOP if ended else LENGTH,
            weights_hash=self.weights_hash,
            logps=tuple(answer.logps[: len(kept)]),
        )

    def _result(self, future: Future[Completion], job: _Job, waiting: list[_Job]) -> Completion | None:
        """The story, or None if it has to be asked for again. Raises EngineError if that is of no use."""
        served = job.at
        assert served is not None
        served.in_flight -= 1
        try:
            completion = future.result()
        except ServerGone as gone:
            job.tries += 1
            if served.model:  # others of its stories have said so already
                self._fleet.put_aside(served, str(gone))
            if job.tries >= TRIES * len(self._fleet.servers):
                raise EngineError(
                    f"{gone} It has failed {job.tries} times on this prompt: {job.request.prompt[:80]!r}"
                ) from gone
            waiting.append(job)
            return None
        except Refused as no:
            job.tries += 1
            if no.status == 429:  # a gateway's: later, please
                self._fleet.put_aside(served, str(no))
            elif no.status != 404 or job.tries >= TRIES:
                raise EngineError(str(no)) from no
            served.model = ""  # it has been started again, or our adapter made room for others
            waiting.append(job)
            return None
        served.pause = 0.0
        return completion

    def close(self) -> None:
        """Hang up. The servers run on."""
        self._fleet.hang_up()
        self._pool.shutdown(cancel_futures=True)
