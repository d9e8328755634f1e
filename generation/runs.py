"""The life of a writing run: begun or joined, shared by workers, reported on, ended.

What is missing is in the stories themselves, so there is nothing to keep in step: a worker takes
prompts by an advisory lock of its database session, which PostgreSQL gives back the moment the
worker is gone, and the unique constraint of Story keeps each place from being stored twice.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import timedelta

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Count, F, Min, Q
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext as _

from generation import locks, run_words
from generation.heartbeat import beating
from generation.models import EmptyPlace, FinishReason, Policy, Prompt, Redraw, RunState, Story, WritingRun
from generation.plan import MAX_DRAWS

QUIET = timedelta(seconds=30)  # a run without a report for so long has no worker
RATE_OVER = timedelta(minutes=3)
NAMESPACE = 0x53746F72  # "Stor": of our advisory locks of (prompt) within a policy
RUNS = 0x52756E73  # "Runs": held by the workers of a run


class CannotWrite(ValueError):
    """No run can be begun; the message says why and what to do."""


class RunEnded(RuntimeError):
    """The run was cancelled or has failed elsewhere: the worker that learns it stops writing."""


@dataclass(frozen=True)
class Progress:
    """How far a run is, for a person. seconds_left is None while nothing is known."""

    done: int
    wanted: int
    per_minute: float
    seconds_left: float | None
    worked_on: bool

    @property
    def share(self) -> float:
        return min(self.done / self.wanted, 1.0) if self.wanted else 1.0


# --- what is missing ---------------------------------------------------------------------------------------


def missing_count(policy: Policy, count: int) -> int:
    """How many stories `policy` has not written yet, of `count` for each prompt."""
    have = policy.stories.filter(sample_index__lt=count).count()
    return max(Prompt.objects.count() * count - have, 0)


def incomplete_prompts(run: WritingRun, *, after: int, window: int) -> tuple[list[Prompt], int | None]:
    """Of the `window` prompts above id `after`, those with a place that is neither written nor given up by
    this run; and the id to go on from, None at the end. Reads a window only, however many prompts there are.
    """
    prompts = list(Prompt.objects.filter(pk__gt=after).order_by("pk")[:window])
    settled: Counter[int] = Counter()
    stories = Story.objects.filter(policy=run.policy_id, sample_index__lt=run.count)
    for rows in (stories, EmptyPlace.objects.filter(run=run)):
        settled.update(rows.filter(prompt__in=prompts).values_list("prompt_id", flat=True))
    found = [prompt for prompt in prompts if settled[prompt.pk] < run.count]
    return found, prompts[-1].pk if len(prompts) == window else None


def open_places(run: WritingRun, prompt: Prompt) -> tuple[dict[int, int], list[str]]:
    """({sample_index still to be written: draws that earlier runs have spent on it}, texts of the stories there)."""
    stories = dict(Story.objects.filter(policy=run.policy_id, prompt=prompt).values_list("sample_index", "text"))
    given_up = EmptyPlace.objects.filter(run__policy=run.policy_id, prompt=prompt)
    spent = Counter(given_up.exclude(run=run).values_list("sample_index", flat=True))
    closed = {*stories, *given_up.filter(run=run).values_list("sample_index", flat=True)}
    return {i: MAX_DRAWS * spent[i] for i in range(run.count) if i not in closed}, list(stories.values())


def require_prompts() -> None:
    """Raise CannotWrite if there is nothing to write for."""
    if not Prompt.objects.exists():
        raise CannotWrite(_("There are no prompts. Import some first: manage.py import_prompts FILE."))


# --- begun, shared, ended ----------------------------------------------------------------------------------


def begin_or_join(*, policy: Policy, count: int, engine: str, by: User | None = None) -> WritingRun:
    """The policy's run that is at work, or a new one. Raises CannotWrite."""
    require_prompts()
    with transaction.atomic():
        locked = Policy.objects.select_for_update().get(pk=policy.pk)  # two at once would both begin one
        if locked.weights_deleted_at:
            raise CannotWrite(_("The weights of %(policy)s were deleted: it writes no more.") % {"policy": policy.name})
        run = WritingRun.objects.at_work().filter(policy=policy).first()
        if run and run.count != count and not worked_on(run):
            cancel(run)  # what somebody left behind is nobody's any more
            run = None
        if run is None:
            wanted = missing_count(policy, count)
            return WritingRun.objects.create(policy=policy, count=count, engine=engine, wanted=wanted, launched_by=by)
        if run.count != count:
            raise CannotWrite(
                _("%(policy)s is writing %(count)d stories a prompt: wait for that run to end, or cancel it.")
                % {"policy": policy.name, "count": run.count}
            )
    return join(run, engine=engine)


def join(run: WritingRun, *, engine: str) -> WritingRun:
    """Take part in a run. Raises CannotWrite if it has ended."""
    if not WritingRun.objects.at_work().filter(pk=run.pk).update(engine=engine, seen_at=Now()):
        raise CannotWrite(_("The run has been ended."))
    run.refresh_from_db()
    return run


@contextmanager
def at_it(run: WritingRun) -> Iterator[None]:
    """Be one of the run's workers for the block: a shared lock, which PostgreSQL gives back if the worker dies."""
    with locks.shared(_key_of(run), namespace=RUNS):
        yield


def workers(run: WritingRun) -> int:
    """How many are at it now."""
    return locks.holders(_key_of(run), namespace=RUNS)


def _key_of(run: WritingRun) -> int:
    return run.pk % 2**31


def kept_alive(run: WritingRun) -> AbstractContextManager[None]:
    """Report for the run while something takes long: loading a model."""
    mine = WritingRun.objects.at_work().filter(pk=run.pk)
    return beating(lambda: mine.update(seen_at=Now()), QUIET.total_seconds() / 6)


def try_claim(run: WritingRun, prompt: Prompt) -> bool:
    """Take the prompt for this database session; False if another one has it."""
    return _locking("pg_try_advisory_lock", run, prompt)


def release(run: WritingRun, prompt: Prompt) -> None:
    _locking("pg_advisory_unlock", run, prompt)


def _locking(function: str, run: WritingRun, prompt: Prompt) -> bool:
    # two 32-bit keys: prompts that share one are merely not written at the same time
    return locks.ask(function, (run.policy_id * 1_000_003 + prompt.pk) % 2**31, namespace=NAMESPACE)


def report(run: WritingRun, faults: Mapping[str, int] | None = None) -> None:
    """Say that a worker is at it, and which draws it has not kept since it last said so.

    The stories are counted, not added up: what a worker wrote just before it died counts, too.
    Raises RunEnded if the run was cancelled, or has failed elsewhere.
    """
    with transaction.atomic():
        _count(run)
        for fault, draws in (faults or {}).items():
            Redraw.objects.get_or_create(run=run, fault=fault)
            Redraw.objects.filter(run=run, fault=fault).update(draws=F("draws") + draws)
    state = WritingRun.objects.filter(pk=run.pk).values_list("state", flat=True).first()
    if state == RunState.CANCELLED:
        raise RunEnded(_("The run has been cancelled. The stories that are written are kept."))
    if state not in (RunState.RUNNING, RunState.DONE):
        raise RunEnded(_("The run has been ended."))


def _count(run: WritingRun) -> None:
    cut_off = Count("pk", filter=Q(finish_reason=FinishReason.LENGTH))
    found = Story.objects.filter(run=run).aggregate(stored=Count("pk"), cut_off=cut_off)
    WritingRun.objects.filter(pk=run.pk).update(seen_at=Now(), **found)


def give_up(run: WritingRun, prompt: Prompt, sample_index: int, fault: str) -> None:
    """No draw of this place could be kept: this run asks for it no more."""
    EmptyPlace.objects.get_or_create(run=run, prompt=prompt, sample_index=sample_index, defaults={"fault": fault})


def end_run(run: WritingRun, state: RunState, message: str = "") -> bool:
    """End the run once; False if it had ended before. Its workers stop at their next report."""
    _count(run)
    running = WritingRun.objects.at_work().filter(pk=run.pk)
    return bool(running.update(state=state, message=message, ended_at=Now()))


def fail(run: WritingRun, message: str) -> None:
    """End the run with what went wrong, in words."""
    end_run(run, RunState.FAILED, message)


def fail_if_alone(run: WritingRun, message: str) -> None:
    """fail(), unless others are at it: they may have what was missing here. For who is at it no more."""
    if not workers(run):
        fail(run, message)


def cancel(run: WritingRun) -> None:
    """End the run; the stories that are written are kept."""
    end_run(run, RunState.CANCELLED)


def cancel_of_policy(policy: Policy) -> None:
    """Cancel what `policy` is writing, if it is."""
    for run in WritingRun.objects.at_work().filter(policy=policy):
        cancel(run)


# --- for a person ------------------------------------------------------------------------------------------


def worked_on(run: WritingRun) -> bool:
    """Whether a worker is at it, or was a moment ago (one that starts takes its time)."""
    return run.state == RunState.RUNNING and (timezone.now() - run.seen_at < QUIET or workers(run) > 0)


def progress(run: WritingRun) -> Progress:
    """How far the run is; the time left from the stories of the last minutes, since it was last taken up."""
    now = timezone.now()
    recent = Story.objects.filter(run=run, created_at__gt=now - RATE_OVER).aggregate(
        n=Count("pk"), first=Min("created_at")
    )
    minutes = max((now - recent["first"]).total_seconds(), 1.0) / 60 if recent["n"] else 1.0
    rate = recent["n"] / minutes
    done = run.stored + run.empty_places.count()
    left = max(run.wanted - done, 0)
    return Progress(
        done=done,
        wanted=run.wanted,
        per_minute=rate,
        seconds_left=60 * left / rate if rate and run.state == RunState.RUNNING else None,
        worked_on=worked_on(run),
    )


def summary(run: WritingRun) -> str:
    """What all workers of the run did, for a person, with what to do about stories that went wrong."""
    return run_words.in_words(counted(run))


def counted(run: WritingRun) -> dict[str, int]:
    """The facts of run_words, as the stories are now."""
    _count(run)
    run.refresh_from_db(fields=["stored", "cut_off"])
    return run_words.facts(run)
