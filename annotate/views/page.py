"""The judging page: what stands on it, and what the server says on it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _

from annotate.chips import chips_against, chips_for
from annotate.forms import NO_DIFFERENCE
from annotate.models import Assignment, Campaign, Criterion, Draft, Judgement, Place, Verdict
from annotate.pages import PageState
from annotate.permissions import ExpertRequest
from generation.local_cache import cache

WORST_KEYS = "abcde"
PROGRESS_SECONDS = 20

Fields = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Done:
    """The act before this page: said on top of it, with a way back."""

    assignment: Assignment
    judgement: Judgement | None  # None: skipped
    repeated: bool = False

    @property
    def message(self) -> str:
        if self.judgement is None:
            return _("Skipped. Somebody else will judge it.")
        if self.repeated:
            return _("This judgement had been saved before; the first one stands.")
        if self.judgement.verdict == Verdict.UNSAFE:
            return _("Saved. The story has left the queue; an admin will look at it. Thank you!")
        if self.judgement.extra:
            return _("Saved as an extra: others had filled this comparison in the meantime.")
        return _("Saved. Thank you!")


@dataclass(frozen=True)
class Work:
    """One showing of the page."""

    assignment: Assignment
    fields: Fields
    page: PageState
    editing: bool = False
    complaints: Sequence[str] = ()
    other: Fields | None = None  # what another page has written since
    done: Done | None = None


def fresh_work(assignment: Assignment, **more: Any) -> Work:
    """The page as it opens: with the draft, if there is one."""
    # version 0: nothing was ever written from its page
    draft = Draft.objects.filter(assignment=assignment).first() if assignment.version else None
    page = PageState(uuid4(), assignment.version)
    return Work(assignment, draft.fields if draft else {}, page, **more)


def show_work(request: ExpertRequest, work: Work, status: int = 200) -> HttpResponse:
    assignment = work.assignment
    campaign = Campaign.current()
    fragment = is_fragment(request)
    shown = cards(assignment, work.fields)
    context = {
        "assignment": assignment,
        "prompt": assignment.comparison.prompt,
        "cards": shown,
        "untouched": _untouched(request, work, campaign, shown),
        "criteria": criteria(campaign, work.fields, len(assignment.shown)),
        "criteria_required": campaign.criteria_required,
        "criteria_open": campaign.criteria_required or any(name.startswith("criterion_") for name in work.fields),
        "chips_for": _chips(chips_for(request.expert.audience), work.fields.get("reasons_for", ())),
        "chips_against": _chips(chips_against(request.expert.audience), work.fields.get("reasons_against", ())),
        "ranks": [str(position) for position in range(1, len(assignment.shown) + 1)],
        "ordered": any(name.startswith("rank_") for name in work.fields),
        "value": {name: values[0] for name, values in work.fields.items() if values},
        "unsafe": work.fields.get("unsafe", ()),
        "work": work,
        "mine": said(work.fields),
        "theirs": said(work.other or {}),
        "keys": request.expert.keys_enabled,
        "fragment": fragment,
        **progress(request),
    }
    return render(request, "annotate/judge.html#work" if fragment else "annotate/judge.html", context, status=status)


def _untouched(request: ExpertRequest, work: Work, campaign: Campaign, shown: list[dict[str, Any]]) -> str:
    """What the lower half of the page depends on while nothing is entered: the key of its copy. "" if something is."""
    if work.fields or work.editing or any(card["withdrawn"] for card in shown):
        return ""
    language = work.assignment.comparison.prompt.language
    asked = (*campaign.criteria, campaign.criteria_required)
    return ":".join(map(str, (request.expert.audience, language, len(shown), *asked)))


def cards(assignment: Assignment, fields: Fields) -> list[dict[str, Any]]:
    best, worst = fields.get("best", ()), fields.get("worst", ())
    found = []
    for position, story in enumerate(assignment.stories(), start=1):
        name = str(position)
        found.append(
            {
                "position": name,
                "paragraphs": () if story.withdrawn_at else paragraphs(story.text),
                "withdrawn": bool(story.withdrawn_at),
                "worst_key": WORST_KEYS[position - 1],
                "best": name in best,
                "worst": name in worst,
                "rank": next(iter(fields.get(f"rank_{name}", ())), ""),
                "unsafe": name in fields.get("unsafe", ()),
            }
        )
    return found


def paragraphs(text: str) -> list[tuple[int, str]]:
    """(offset in code points, text) of each line that is not empty."""
    return [(m.start(), m.group()) for m in re.finditer(r"[^\r\n]+", text) if m.group().strip()]


def criteria(campaign: Campaign, fields: Fields, count: int) -> list[dict[str, Any]]:
    found = []
    for code in campaign.criteria:
        chosen = next(iter(fields.get(f"criterion_{code}", ())), "")
        options = [{"value": str(p), "checked": chosen == str(p)} for p in range(1, count + 1)]
        none = {"value": NO_DIFFERENCE, "checked": chosen == NO_DIFFERENCE}
        found.append({"code": code, "label": Criterion(code).label, "options": options, "none": none})
    return found


def _chips(chips: Mapping[str, object], chosen: Sequence[str]) -> list[dict[str, object]]:
    return [{"code": code, "label": label, "checked": code in chosen} for code, label in chips.items()]


def said(fields: Fields) -> list[str]:
    """An answer in words, to set two of them side by side."""

    def one(name: str) -> str:
        return next(iter(fields.get(name, ())), "")

    lines = []
    verdict = one("verdict")
    if verdict and verdict != Verdict.RANKED:
        lines.append(str(Verdict(verdict).label) if verdict in Verdict.values else verdict)
    if one("best"):
        lines.append(_("Best: story %(position)s") % {"position": one("best")})
    if one("worst"):
        lines.append(_("Worst: story %(position)s") % {"position": one("worst")})
    ranks = sorted((values[0], name.removeprefix("rank_")) for name, values in fields.items() if name[:5] == "rank_")
    if ranks:
        order = ", ".join(f"{story} ({rank})" for rank, story in ranks)
        lines.append(_("Order, as story (rank): %(order)s") % {"order": order})
    if one("reason"):
        lines.append(_("Why: %(reason)s") % {"reason": one("reason")})
    return lines


def progress(request: ExpertRequest) -> dict[str, int]:
    """The expert's own count, and how far everybody has come. The second is some seconds old."""
    wanted, done = cache.get_or_set("judging-progress", _round_progress, PROGRESS_SECONDS) or (0, 0)
    return {"judged": request.expert.judged, "places_left": wanted, "places_done": done, "places": wanted + done}


def _round_progress() -> tuple[int, int]:
    filled = Place.objects.filter(comparison__closed_at=None, assignment__isnull=False, held_until=None)
    return Place.objects.wanted().count(), filled.count()


def is_fragment(request: HttpRequest) -> bool:
    """Asked by htmx for a part of the page; going back in the history asks for all of it."""
    return bool(request.htmx) and not request.htmx.history_restore_request  # type: ignore[attr-defined]
