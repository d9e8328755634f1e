"""One worker's part of a writing run: what its engine is given, and what becomes of each draw.

What is already stored is never written again: a run that was killed goes on where it stopped, and
several workers share it. Whether a draw is kept depends on the prompt, the policy and the plan
only, not on which engine was quicker with which story: see _Bench.
"""

import logging
import time
from collections import Counter, deque
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from typing import NamedTuple

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils.translation import gettext as _

from generation import runs
from generation.acceptance import Sisters, fault_of
from generation.engines.values import LENGTH, Completion, Engine, Request, WrongWeights
from generation.models import Fault, Prompt, RunState, SamplingRow, Story, WritingRun
from generation.plan import MAX_DRAWS, sampling_for, sampling_plan

log = logging.getLogger(__name__)

WINDOW = 256  # prompts looked at in one query
REPORT_SECONDS = 1.0
WAIT_SECONDS = 1.0  # between looks at what other workers have taken


class Draw(NamedTuple):
    """The `number`-th draw of a place. Draws are decided in this order."""

    number: int
    sample_index: int


@dataclass
class Written:
    """What one worker did, in stories."""

    stored: int = 0
    cut_off: int = 0
    given_up: int = 0
    faults: Counter[str] = field(default_factory=Counter)  # draws not kept

    @property
    def redrawn(self) -> int:
        return self.faults.total() - self.given_up


@dataclass
class _Bench:
    """One prompt in work. Draws are decided in the order of Draw, whenever the engine finishes them:
    of two stories that are alike the same one is kept, with any engine and any batch.
    """

    prompt: Prompt
    sisters: Sisters
    spent: dict[int, int]  # draws of each place in earlier runs, whose seeds are not tried again
    pending: set[Draw]
    arrived: dict[Draw, tuple[Request, Completion]] = field(default_factory=dict)


class _Worker:
    def __init__(
        self, run: WritingRun, engine: Engine, accepted: frozenset[str], on_progress: Callable[[Written], None]
    ) -> None:
        self.run, self.engine, self.accepted, self.on_progress = run, engine, accepted, on_progress
        self.plan: list[SamplingRow] = sampling_plan()
        self.written = Written()
        self._reported: Counter[str] = Counter()
        self._reported_at = time.monotonic()
        self._benches: dict[int, _Bench] = {}  # by prompt id
        self._asked: dict[int, tuple[_Bench, Draw, Request]] = {}  # by request key
        self._ready: deque[Request] = deque()
        self._scanned: deque[Prompt] = deque()
        self._cursor: int | None = 0
        self._next_key = 0

    # --- what the engine is given -------------------------------------------------------------------

    def take(self, count: int) -> list[Request]:
        """See values.Take: draws to be made again first, then the places of prompts that nobody else has.

        Raises runs.RunEnded: the engine asks while it writes, so that a long story does not hide a cancel.
        """
        self.report()
        while len(self._ready) < count and self._claim_next():
            pass
        return [self._ready.popleft() for _ in range(min(count, len(self._ready)))]

    def _claim_next(self) -> bool:
        """Take one more prompt; False if there is none to take."""
        while True:
            while not self._scanned:
                if self._cursor is None:
                    return False
                found, self._cursor = runs.incomplete_prompts(self.run, after=self._cursor, window=WINDOW)
                self._scanned.extend(found)
            prompt = self._scanned.popleft()
            if prompt.pk in self._benches or not runs.try_claim(self.run, prompt):
                continue
            # read after the claim: another worker may have written it since the scan
            places, texts = runs.open_places(self.run, prompt)
            if not places:
                runs.release(self.run, prompt)
                continue
            bench = _Bench(prompt, Sisters(prompt.language, texts), places, {Draw(1, i) for i in places})
            self._benches[prompt.pk] = bench
            for draw in sorted(bench.pending):
                self._ask(bench, draw)
            return True

    def _ask(self, bench: _Bench, draw: Draw) -> None:
        row = self.plan[draw.sample_index]
        number = bench.spent[draw.sample_index] + draw.number
        sampling = sampling_for(bench.prompt, row, number, max_tokens=settings.MAX_STORY_TOKENS)
        request = Request(self._next_key, bench.prompt.text, sampling)
        self._asked[request.key] = (bench, draw, request)
        self._ready.append(request)
        self._next_key += 1

    # --- what becomes of a draw ---------------------------------------------------------------------

    def arrive(self, completion: Completion) -> None:
        """Decide what can be decided now that this draw has come."""
        if completion.weights_hash not in self.accepted:
            raise WrongWeights(
                f"The engine says that weights {completion.weights_hash[:12]} wrote a story, which are not those of "
                f"{self.run.policy.name}. The run was stopped; that story was not stored."
            )
        bench, draw, request = self._asked.pop(completion.key)
        bench.arrived[draw] = (request, completion)
        while bench.pending and (first := min(bench.pending)) in bench.arrived:
            bench.pending.remove(first)
            self._decide(bench, first, *bench.arrived.pop(first))
        if not bench.pending:
            del self._benches[bench.prompt.pk]
            runs.release(self.run, bench.prompt)

    def _decide(self, bench: _Bench, draw: Draw, request: Request, completion: Completion) -> None:
        text = completion.text.replace("\x00", "")
        last = draw.number == MAX_DRAWS
        # what is whole but for its end is kept in the end: a prompt with few stories is worth more than none
        fault = fault_of(completion, text, bench.sisters, cut_off_is_kept=last)
        if not fault:
            if self._store(bench, draw, request, completion, text):
                bench.sisters.add(text)
            return
        self.written.faults[fault] += 1
        if last or fault == Fault.TOO_LONG:
            self.written.given_up += 1
            runs.give_up(self.run, bench.prompt, draw.sample_index, fault)
            return
        again = Draw(draw.number + 1, draw.sample_index)
        bench.pending.add(again)
        self._ask(bench, again)

    def _store(self, bench: _Bench, draw: Draw, request: Request, completion: Completion, text: str) -> bool:
        """Keep the story; False if another worker has stored this place (after a lost database session)."""
        sampling = request.sampling
        story = Story(
            prompt=bench.prompt,
            policy=self.run.policy,
            run=self.run,
            sample_index=draw.sample_index,
            rendered_prompt=completion.rendered_prompt,
            text=text,
            token_ids=list(completion.token_ids),
            finish_reason=completion.finish_reason,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            min_p=sampling.min_p,
            top_k=sampling.top_k,
            repetition_penalty=sampling.repetition_penalty,
            seed=sampling.seed,
            draws=bench.spent[draw.sample_index] + draw.number,
            weights_hash=completion.weights_hash,
            engine=f"{self.engine.name} {self.engine.version}"[:40],
        )
        try:
            with transaction.atomic():
                story.save(force_insert=True)
        except IntegrityError as error:
            log.warning("story %s of prompt %s: %s", draw.sample_index, bench.prompt.pk, error)
            return False
        self.written.stored += 1
        self.written.cut_off += completion.finish_reason == LENGTH
        return True

    # --- how far it is ------------------------------------------------------------------------------

    def report(self, *, now: bool = False) -> None:
        """Tell the run, at most each REPORT_SECONDS. Raises runs.RunEnded."""
        if not now and time.monotonic() - self._reported_at < REPORT_SECONDS:
            return
        runs.report(self.run, self.written.faults - self._reported)
        self._reported, self._reported_at = Counter(self.written.faults), time.monotonic()
        self.on_progress(self.written)

    def release_all(self) -> None:
        for bench in self._benches.values():
            runs.release(self.run, bench.prompt)
        self._benches.clear()

    def work(self) -> None:
        """Write until nothing is missing that nobody else has, and then until the others are done, too."""
        while True:
            self._cursor = 0
            with closing(self.engine.write(self.take)) as stories:  # also if the run is ended: nobody wants the rest
                for completion in stories:
                    self.arrive(completion)
                    self.report()
            self.report(now=True)
            if not self._missing():
                return
            time.sleep(WAIT_SECONDS)  # another worker has the rest: if it dies, its prompts are ours

    def _missing(self) -> bool:
        cursor: int | None = 0
        while cursor is not None:
            found, cursor = runs.incomplete_prompts(self.run, after=cursor, window=WINDOW)
            if found:
                return True
        return False


def write_stories(
    *,
    run: WritingRun,
    engine: Engine,
    accepted: frozenset[str],
    on_progress: Callable[[Written], None] = lambda written: None,
) -> Written:
    """Take part in `run` until it is done. `accepted`: the hashes of the policy's weights.

    A draw that is empty, cut off, in the wrong language or (nearly) the same as a sister is made again
    with a new seed, MAX_DRAWS times in all. Raises EngineError if the engine cannot write or holds
    other weights; runs.RunEnded if the run is ended elsewhere.
    """
    worker = _Worker(run, engine, accepted, on_progress)
    try:
        if engine.weights_hash not in accepted:
            raise WrongWeights(
                _("The weights of %(policy)s have changed since it was registered (%(found)s instead of %(known)s). "
                  "Nothing was written.")
                % {"policy": run.policy.name, "found": engine.weights_hash[:12], "known": run.policy.weights_hash[:12]}
            )  # fmt: skip
        worker.work()
    finally:
        worker.release_all()
    runs.end_run(run, RunState.DONE, runs.summary(run))
    return worker.written
