"""What the admins' pages about writing show."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.paginator import Page, Paginator
from django.db.models import Count, Exists, Max, Min, OuterRef, Q
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from generation import locks, runs
from generation.engines.opening import VLLM_SERVER
from generation.models import (
    EngineCheck,
    FinishReason,
    Policy,
    Prompt,
    Redraw,
    RunState,
    SamplingRow,
    Story,
    WritingRun,
)

RUNS_A_PAGE = 20
EMPTY_PLACES_A_PAGE = 100
PATIENCE = timedelta(minutes=1)  # for a worker to begin a check
FORGOTTEN = timedelta(minutes=15)  # a check that nobody has begun by then


# --- the engine --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AskedCheck:
    """A check that this admin has asked for: after which result, and when."""

    after: int
    at: datetime


@dataclass(frozen=True)
class EngineState:
    """What this installation writes with, and whether it is well."""

    name: str
    urls: list[str]  # of vllm-server
    check: EngineCheck | None
    checking: bool
    waiting_since: datetime | None  # asked for, and not begun

    @property
    def in_process(self) -> bool:
        return self.name != VLLM_SERVER

    @property
    def under_way(self) -> bool:
        return self.checking or self.waiting_since is not None

    @property
    def no_worker(self) -> bool:
        return self.waiting_since is not None and timezone.now() - self.waiting_since > PATIENCE


def engine_state(asked: AskedCheck | None) -> EngineState:
    found = EngineCheck.objects.filter(engine=settings.ENGINE).select_related("policy").first()
    checking = locks.is_held(locks.CHECK)
    waiting = None
    if asked and not checking and newest_check() <= asked.after and timezone.now() - asked.at < FORGOTTEN:
        waiting = asked.at
    urls = [without_credentials(url) for url in settings.VLLM_URLS] if settings.ENGINE == VLLM_SERVER else []
    return EngineState(settings.ENGINE, urls, found, checking, waiting)


def newest_check() -> int:
    """The id of the newest check, 0 if there is none."""
    return EngineCheck.objects.values_list("pk", flat=True).first() or 0


def without_credentials(url: str) -> str:
    """http://name:secret@host:1/v1?key=x -> http://host:1/v1."""
    parts = urlsplit(url if "//" in url else f"//{url}")
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl().removeprefix("//")


# --- who wrote what ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Authorship:
    """What one policy has written with one engine."""

    policy: Policy
    engine: str
    stories: int
    cut_off: int
    first: datetime
    last: datetime

    @property
    def cut_off_percent(self) -> float:
        return 100 * self.cut_off / self.stories


def authorship() -> list[Authorship]:
    """By policy, newest first, and engine."""
    policies = Policy.objects.in_bulk()
    found = (
        Story.objects.values("policy_id", "engine")
        .annotate(
            stories=Count("policy_id"),  # of columns that an index may have
            cut_off=Count("policy_id", filter=Q(finish_reason=FinishReason.LENGTH)),
            first=Min("created_at"),
            last=Max("created_at"),
        )
        .order_by("-policy_id", "engine")
    )
    return [
        Authorship(policies[row["policy_id"]], row["engine"], row["stories"], row["cut_off"], row["first"], row["last"])
        for row in found
    ]


# --- runs --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RunCard:
    """A run as the page shows it."""

    run: WritingRun
    progress: runs.Progress
    redraws: list[Redraw]
    empty_places: int

    @property
    def at_work(self) -> bool:
        return self.run.state == RunState.RUNNING

    @property
    def wanted(self) -> int:
        """At least what is done: prompts may have been imported since it began."""
        return max(self.progress.wanted, self.progress.done)

    @property
    def per_minute(self) -> float:
        """As exact as it is meant; 0 while nobody writes."""
        if self.at_work and not self.progress.worked_on:
            return 0.0
        return round(self.progress.per_minute, 1 if self.progress.per_minute < 10 else None)

    @property
    def not_kept(self) -> int:
        return sum(row.draws for row in self.redraws)

    @property
    def time_left(self) -> str:
        seconds = self.progress.seconds_left
        return time_left(seconds) if seconds is not None and self.progress.worked_on else ""

    @property
    def stage(self) -> str:
        """Changes with what may be done about the run, not with each story."""
        return f"{self.run.state}-worked-on" if self.progress.worked_on else str(self.run.state)


def run_page(number: str | None) -> Page[Any]:
    """The newest runs, RUNS_A_PAGE a page; a page that is not there is the nearest one."""
    return Paginator(_shown_runs(), RUNS_A_PAGE).get_page(number)


def run_cards(found: Iterable[WritingRun]) -> list[RunCard]:
    return [_card(run) for run in found]


def run_card(number: int) -> RunCard:
    """Raises WritingRun.DoesNotExist."""
    return _card(_shown_runs().get(pk=number))


def _shown_runs() -> Any:
    found = WritingRun.objects.select_related("policy", "launched_by").prefetch_related("redraws")
    return found.annotate(empties=Count("empty_places")).order_by("-pk")  # an aggregate forgets Meta.ordering


def _card(run: WritingRun) -> RunCard:
    empties: int = run.empties  # type: ignore[attr-defined]  # annotated
    progress = runs.progress(run) if run.state == RunState.RUNNING else _progress_at_its_end(run, empties)
    redraws = sorted((row for row in run.redraws.all() if row.draws), key=lambda row: -row.draws)
    return RunCard(run, progress, redraws, empties)


def _progress_at_its_end(run: WritingRun, empties: int) -> runs.Progress:
    """With the rate of the whole run: nothing was written in the last minutes."""
    assert run.ended_at is not None
    minutes = max((run.ended_at - run.started_at).total_seconds(), 1.0) / 60
    return runs.Progress(run.stored + empties, run.wanted, run.stored / minutes, seconds_left=None, worked_on=False)


def time_left(seconds: float) -> str:
    """In words, as exact as anybody can know it."""
    if seconds < 60:
        return _("less than a minute left")
    minutes, hours, days = round(seconds / 60), round(seconds / 3600), round(seconds / 86400)
    if minutes < 60:
        return ngettext("about %(n)d minute left", "about %(n)d minutes left", minutes) % {"n": minutes}
    if hours < 48:
        return ngettext("about %(n)d hour left", "about %(n)d hours left", hours) % {"n": hours}
    return ngettext("about %(n)d day left", "about %(n)d days left", days) % {"n": days}


# --- what is missing ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Missing:
    """What the policy in use has not written, and what stands in the way of asking for it."""

    policy: Policy | None
    prompts: bool
    stories: int = 0
    given_up: int = 0  # of them: by the policy's last run
    last_run: WritingRun | None = None
    at_work: WritingRun | None = None


def missing() -> Missing:
    policy = Policy.objects.current()
    found = Missing(policy, Prompt.objects.exists())
    if policy is None or not found.prompts:
        return found
    last = policy.runs.filter(state=RunState.DONE).first()
    written_since = policy.stories.filter(prompt=OuterRef("prompt"), sample_index=OuterRef("sample_index"))
    return replace(
        found,
        stories=runs.missing_count(policy, settings.STORIES_PER_PROMPT),
        given_up=last.empty_places.exclude(Exists(written_since)).count() if last else 0,
        last_run=last,
        at_work=policy.runs.filter(state=RunState.RUNNING).first(),
    )


# --- the sampling plan -------------------------------------------------------------------------------------


def plan_warnings(rows: Sequence[SamplingRow]) -> list[str]:
    """What is allowed and most likely not meant: stories of one prompt that are drawn alike."""
    alike: dict[tuple[float, ...], list[int]] = {}
    for row in rows:
        # without chance there is nothing left to cut
        cuts = (row.top_p, row.top_k, row.min_p) if row.temperature else ()
        alike.setdefault((row.temperature, row.repetition_penalty, *cuts), []).append(row.sample_index + 1)
    return [_warning(places, greedy=key[0] == 0) for key, places in alike.items() if len(places) > 1]


def _warning(places: list[int], *, greedy: bool) -> str:
    names = {"numbers": ", ".join(map(str, places))}
    if greedy:
        return _(
            "Stories %(numbers)s are drawn without chance (temperature 0), so they come out the same, and only one of "
            "them can be kept."
        ) % names  # fmt: skip
    return _(
        "Stories %(numbers)s are drawn in the same way: experts will see less of a difference between them, even with "
        "other seeds."
    ) % names  # fmt: skip
