"""What to do with a round, in a sentence, and the reasons on both sides. It advises; an admin decides."""

from dataclasses import dataclass, field
from typing import Literal, Protocol

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from annotate.agreement import agreement
from annotate.listening import child_win_rate
from annotate.models import Comparison, Place
from annotate.position import position_bias
from annotate.winrates import Contest, WinRate
from generation.models import Policy
from generation.summaries import MEASURES, Change, change
from training.alarms import findings
from training.models import Round

PARTED_BY = ("audience", "language")  # among many more parts one would prefer the old policy by chance alone
BETTER_UP, BETTER_DOWN = ("structure", "message"), ("hard_words", "broken")
LEAN = 0.05  # of the best stories, beyond chance in one place: less is no matter, though many judgements can show it


@dataclass(frozen=True)
class Advice:
    """sentence: what the judgements and measures say. verdict: "wait" where more judgements would decide it,
    "unclear" where an admin has to weigh the reasons."""

    sentence: str
    reasons_for: list[str]
    reasons_against: list[str]
    verdict: Literal["promote", "wait", "reject", "unclear"]


class Rate(Protocol):
    """A win rate of experts or of children."""

    @property
    def n(self) -> int: ...
    @property
    def enough(self) -> bool: ...
    @property
    def low(self) -> float | None: ...
    @property
    def high(self) -> float | None: ...
    @property
    def percent(self) -> int: ...
    @property
    def percent_low(self) -> int: ...
    @property
    def percent_high(self) -> int: ...


@dataclass
class Reasons:
    favour: list[str] = field(default_factory=list)
    against: list[str] = field(default_factory=list)

    def weigh(self, rate: Rate, favour: str, against: str) -> None:
        """One of the two with its figures, if the interval leaves out a half."""
        if wins(rate):
            self.favour.append(_("%(said)s: %(figures)s.") % {"said": favour, "figures": _figures(rate)})
        elif loses(rate):
            self.against.append(_("%(said)s: %(figures)s.") % {"said": against, "figures": _figures(rate)})


def wins(rate: Rate) -> bool:
    return rate.enough and rate.low is not None and rate.low > 0.5


def loses(rate: Rate) -> bool:
    return rate.enough and rate.high is not None and rate.high < 0.5


def advise(shown: Round) -> Advice:
    """The advice for a round, as things stand now. Simulated experts count where the round counts them."""
    if shown.result is None:
        return Advice(_("The round has made no policy yet."), [], [], "wait")
    people = not shown.include_simulated
    contest = Contest(shown.result, shown.policy)
    rate = contest.rate(people=people)
    bases = [Contest(shown.result, baseline).rate(people=people) for baseline in shown.baselines()[1:]]
    reasons = Reasons()
    _weigh_judgements(reasons, shown, rate, bases)
    _weigh_parts(reasons, contest, people=people)
    _weigh_stories(reasons, shown.policy, shown.result)
    _weigh_alarms(reasons, shown)
    _weigh_trust(reasons, contest, rate)
    verdict = _verdict(contest, rate, bases, doubts=bool(reasons.against))
    return Advice(_sentence(shown, shown.result, rate), reasons.favour, reasons.against, verdict)


def _verdict(
    contest: Contest, rate: WinRate, bases: list[WinRate], *, doubts: bool
) -> Literal["promote", "wait", "reject", "unclear"]:
    if any(loses(one) for one in (rate, *bases)):
        return "reject"
    if wins(rate):
        return "unclear" if doubts else "promote"
    ours = {"comparison__policy": contest.policy, "comparison__baseline": contest.baseline}
    more = not rate.enough or rate.more_to_decide
    return "wait" if more and Place.objects.wanted().filter(**ours).exists() else "unclear"


# -- the sentence


def _sentence(shown: Round, result: Policy, rate: WinRate) -> str:
    words = {"new": shown.number, "old": called(shown.policy), "n": rate.n, "figures": _figures(rate)}
    if not rate.n:
        head = _("Round %(new)d has not been judged against %(old)s yet")
    elif not rate.enough:
        head = _("Round %(new)d against %(old)s: not enough judgements yet, n = %(n)d")
    elif wins(rate):
        head = _("Round %(new)d beats %(old)s: %(figures)s")
    elif loses(rate):
        head = _("Round %(new)d loses to %(old)s: %(figures)s")
    else:
        head = _("It is not clear whether round %(new)d is better than %(old)s: %(figures)s")
    parts = [
        _length(change(shown.policy, result, "mean_words")),
        _share(change(shown.policy, result, "repetition"), _("repetition")),
        _share(change(shown.policy, result, "diversity"), _("diversity")),
    ]
    return _("%(said)s.") % {"said": _("; ").join([head % words, *filter(None, parts)])}


def called(policy: Policy) -> str:
    """A round's result by its round; another by its name."""
    number = Round.objects.filter(result=policy).values_list("number", flat=True).first()
    return _("round %(number)d") % {"number": number} if number else policy.name


def _figures(rate: Rate) -> str:
    return f"{rate.percent} % [{rate.percent_low}, {rate.percent_high}], n = {rate.n}"


def _length(found: Change | None) -> str:
    if found is None or found.relative is None:
        return ""
    if not found.clear:
        return _("length unchanged")
    percent = {"percent": f"{100 * abs(found.relative):.0f}"}
    if found.mean > 0:
        return _("stories are %(percent)s %% longer") % percent
    return _("stories are %(percent)s %% shorter") % percent


def _share(found: Change | None, what: str) -> str:
    """A share that is not measured is not named."""
    if found is None:
        return ""
    words = {"what": what, "before": f"{100 * found.before:.1f}", "after": f"{100 * found.after:.1f}"}
    if not found.clear:
        return _("%(what)s unchanged") % words
    if found.mean > 0:
        return _("%(what)s up from %(before)s to %(after)s %%") % words
    return _("%(what)s down from %(before)s to %(after)s %%") % words


# -- the reasons


def _weigh_judgements(reasons: Reasons, shown: Round, rate: WinRate, bases: list[WinRate]) -> None:
    old = {"policy": called(shown.policy)}
    reasons.weigh(rate, _("Experts prefer it to %(policy)s") % old, _("Experts prefer %(policy)s") % old)
    if not rate.enough:
        reasons.against.append(_too_few(rate))
    elif not rate.decided:
        reasons.against.append(_undecided(rate))
    for baseline, base in zip(shown.baselines()[1:], bases, strict=True):
        old = {"policy": called(baseline)}
        reasons.weigh(base, _("Experts prefer it to %(policy)s") % old, _("Experts prefer %(policy)s") % old)


def _too_few(rate: WinRate) -> str:
    if not rate.missing:
        return _("One expert alone has judged: another has to.")
    said = ngettext(
        "Not enough judgements: at least %(missing)d more is needed before the figure says anything.",
        "Not enough judgements: at least %(missing)d more are needed before the figure says anything.",
        rate.missing,
    )
    return said % {"missing": rate.missing}


def _undecided(rate: WinRate) -> str:
    if not rate.more_to_decide:
        return _("The interval reaches a half: more judgements will hardly decide it.")
    said = ngettext(
        "The interval reaches 50 %%: about %(more)d more judgement would decide it, if the rate stays.",
        "The interval reaches 50 %%: about %(more)d more judgements would decide it, if the rate stays.",
        rate.more_to_decide,
    )
    return said % {"more": rate.more_to_decide}


def _weigh_parts(reasons: Reasons, contest: Contest, *, people: bool) -> None:
    """Audiences and languages, if there are two or more of them: one is the whole."""
    for dimension in contest.dimensions(people=people):
        if dimension.name in PARTED_BY and len(dimension.parts) > 1:
            for part in dimension.parts:
                words = {"part": part.label}
                reasons.weigh(
                    part.rate, _("%(part)s: the new one is preferred") % words,
                    _("%(part)s: the old one is preferred") % words,
                )  # fmt: skip
    children = child_win_rate(contest.policy, contest.baseline).choices
    reasons.weigh(children, _("Children choose the new stories"), _("Children choose the old stories"))


def _weigh_stories(reasons: Reasons, before: Policy, after: Policy) -> None:
    for name in (*BETTER_UP, *BETTER_DOWN):
        found = change(before, after, name)
        if found and found.clear:
            better = (found.mean > 0) == (name in BETTER_UP)
            said = _share(found, str(MEASURES[name].label))
            (reasons.favour if better else reasons.against).append(
                _("%(said)s.") % {"said": said[:1].upper() + said[1:]}
            )


def _weigh_alarms(reasons: Reasons, shown: Round) -> None:
    watched = [finding for finding in findings(shown) if finding.limit is not None]
    against = [finding.reason for finding in watched if finding.reason]
    reasons.against += against
    if watched and not against:
        reasons.favour.append(_("No alarm, in %(n)d figures that are watched.") % {"n": len(watched)})


def _weigh_trust(reasons: Reasons, contest: Contest, rate: WinRate) -> None:
    if rate.n and rate.simulated == rate.n:
        reasons.against.append(_("Only simulated experts have judged."))
    elif rate.simulated:
        said = _("%(simulated)d of the %(n)d judgements are of simulated experts.")
        reasons.against.append(said % {"simulated": rate.simulated, "n": rate.n})
    simulated = rate.simulated == rate.n
    compared = Comparison.objects.evaluation_of(contest.policy, contest.baseline)
    found = agreement(compared.values_list("pk", flat=True), simulated=simulated)
    if found.alpha and found.alpha.low <= 0:
        said = _("Experts agree hardly more than by chance: alpha %(alpha)s [%(low)s, %(high)s], n = %(n)d.")
        alpha = {name: f"{number:.2f}" for name, number in vars(found.alpha).items()}
        reasons.against.append(said % {**alpha, "alpha": alpha["value"], "n": found.pairs})
    bias = position_bias(simulated=simulated)
    if bias.leans and max(abs(a - b) for a, b in zip(bias.counts, bias.expected, strict=True)) > LEAN * bias.n:
        said = _(
            "The place on the screen sways the choice: the first story wins %(share)s %%, by chance %(chance)s %%."
        )
        shares = {"share": f"{100 * bias.first_share:.0f}", "chance": f"{100 * bias.first_by_chance:.0f}"}
        reasons.against.append(said % shares)
