"""Win rates, by the functions that the pages ask."""

from typing import Any

from django.http import HttpRequest
from ninja import Field, Query, Router, Schema

from annotate.winrates import Contest, WinRate
from config.api.access import AdminToken, refused
from config.api.problems import Refused
from config.api.rounds import find_round
from config.api.values import Name, Number
from generation.models import Policy

router = Router(tags=["win rates"], auth=AdminToken())


class Rate(Schema):
    """(wins + ties/2) / n with a 95 % interval over prompts and experts."""

    rate: float | None = Field(None, description="0-1; null without any judgement", examples=[0.68])
    low: float | None = Field(None, description="lower end of the interval", examples=[0.58])
    high: float | None = Field(None, description="upper end of the interval", examples=[0.77])
    n: int = Field(description="judgements", examples=[240])
    simulated: int = Field(description="how many of them are simulated experts'", examples=[0])
    judges: int = Field(description="whose they are", examples=[3])
    enough: bool = Field(description="false: too few judgements or judges; the pages do not show the figure")


class Part(Rate):
    by: str = Field(
        description="simulated, audience, language, age_band, theme, story_type or criterion", examples=["audience"]
    )
    value: str = Field(description="which of them", examples=["educator"])


class WinRateOut(Rate):
    policy: str = Field(description="whose win rate it is", examples=["round-2"])
    baseline: str = Field(description="what it was compared with", examples=["round-1"])
    people: bool = Field(description="simulated experts' judgements are left out")
    decided: bool = Field(description="the interval leaves out a half: one of the two is better")
    more_to_decide: int | None = Field(
        None, description="about how many more judgements would decide it; null: unknown"
    )
    parts: list[Part]


class WinRates(Schema):
    items: list[WinRateOut]


class Wanted(Schema):
    policy: Name = Field(description="name of the newer policy", examples=["round-2"])
    baseline: Name = Field(description="name of the policy that it was compared with", examples=["round-1"])
    people: bool = Field(False, description="leave out simulated experts")


@router.get("/win-rates", response=WinRateOut, summary="Read a win rate", openapi_extra=refused(404))
def get_win_rate(request: HttpRequest, wanted: Query[Wanted]) -> WinRateOut:
    """From the blind evaluation comparisons of the two, as judged by now."""
    return _out(_policy(wanted.policy), _policy(wanted.baseline), people=wanted.people)


@router.get(
    "/rounds/{number}/win-rates", response=WinRates, summary="Read a round's win rates", openapi_extra=refused(404)
)
def list_win_rates(request: HttpRequest, number: Number) -> WinRates:
    """Against the policy before, and against the base if that is another; as its page shows them. Empty until the
    round has made a policy."""
    shown = find_round(number)
    if shown.result is None:
        return WinRates(items=[])
    people = not shown.include_simulated
    return WinRates(items=[_out(shown.result, baseline, people=people) for baseline in shown.baselines()])


def _out(policy: Policy, baseline: Policy, *, people: bool) -> WinRateOut:
    contest = Contest(policy, baseline)
    rate = contest.rate(people=people)
    parts = [
        Part(by=dimension.name, value=part.filters[dimension.name], **_figures(part.rate))
        for dimension in contest.dimensions(people=people)
        for part in dimension.parts
    ]
    return WinRateOut(
        policy=policy.name,
        baseline=baseline.name,
        people=people,
        decided=rate.decided,
        more_to_decide=rate.more_to_decide,
        parts=parts,
        **_figures(rate),
    )


def _figures(rate: WinRate) -> dict[str, Any]:
    return {name: getattr(rate, name) for name in Rate.model_fields}


def _policy(name: str) -> Policy:
    found = Policy.objects.filter(name=name).first()
    if found is None:
        raise Refused(404, f"There is no policy {name!r}.")
    return found
