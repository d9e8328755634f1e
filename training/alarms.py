"""Reward over-optimization: what is watched in a round, and when it is too much.

A policy that is trained on preferences gets better, and then worse, the further it goes from the
policy that it began with, while the figures of the training still rise (Gao, Schulman & Hilton,
2022, "Scaling laws for reward model overoptimization"; Rafailov et al., 2024, "Scaling laws for
reward model overoptimization in direct alignment algorithms": for DPO without a reward model, too,
and often within one epoch). What experts see of it comes late; these figures come first.

The limits are an admin's (`AlarmLimits`). Those that ship are rules of thumb, tried on the demo's writer
only (docs/training.md): healthy rounds stay below all of them, one that was trained too hard does not.
"""

from collections.abc import Callable
from dataclasses import dataclass

from django.db import transaction
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from generation.models import Policy
from generation.summaries import Change, change
from training.models import Alarm, AlarmLimits, Round, RoundMetric, Watched


@dataclass(frozen=True)
class Finding:
    """One watched figure of a round.

    value: what is compared with the limit, in nats for the first three, else a share (0.12 is 12 %, or 12
    percentage points); None: not measured. limit: None: not watched. now, baseline: the round's own
    figure and the base's, where the value is a change between them. n: held-out stories, or prompts that
    both policies wrote for.
    """

    kind: Watched
    value: float | None
    limit: float | None
    now: float | None = None
    baseline: float | None = None
    n: int | None = None

    @property
    def label(self) -> str:
        return str(self.kind.label)

    @property
    def crossed(self) -> bool | None:
        """None: not measured, or not watched. What is no number is beyond every limit."""
        if self.value is None or self.limit is None:
            return None
        return not self.value <= self.limit

    @property
    def unmeasured(self) -> bool:
        """It should be known and is not."""
        return self.value is None and self.limit is not None

    @property
    def verdict(self) -> str:
        """In words. Never "fine": what is within a limit has not been shown to be good."""
        if self.limit is None:
            return _("not watched")
        if self.value is None:
            return _("not measured: %(why)s") % {"why": WHY_NOT[self.kind in OF_HELD_OUT]}
        return _("alarm") if self.crossed else _("within the limit")

    @property
    def reason(self) -> str:
        """Why the round is not to be promoted unseen; empty if this is no reason."""
        if self.crossed:
            return _("Alarm, %(what)s: %(value)s, the limit is %(limit)s.") % {
                "what": self.label,
                "value": self.value_text,
                "limit": self.limit_text,
            }
        return _("%(what)s: %(verdict)s.") % {"what": self.label, "verdict": self.verdict} if self.unmeasured else ""

    @property
    def value_text(self) -> str:
        return written(self.kind, self.value)

    @property
    def limit_text(self) -> str:
        return written(self.kind, self.limit)

    @property
    def now_text(self) -> str:
        return _or_dash(self.now, _words if self.kind == Watched.LENGTH else _percent)

    @property
    def baseline_text(self) -> str:
        return _or_dash(self.baseline, _words if self.kind == Watched.LENGTH else _percent)


# -- what is watched, each a function of its own


def kl_a_story(metric: RoundMetric) -> float | None:
    """Mean over held-out stories of log ref - log pi, nats a story: KL(ref || pi) where the reference wrote them.

    The axis on which Gao et al. and Rafailov et al. (both above) see quality rise and fall; they
    take KL(pi || ref) on new stories, which wants the reference beside the writer. Four times the
    words at the same distance a word give four times the KL.
    """
    return metric.kl


def kl_a_token(metric: RoundMetric) -> float | None:
    """The same over the stories' tokens, nats a token: stories of different length can be compared."""
    return metric.kl_token


def chosen_fall(metric: RoundMetric) -> float | None:
    """Mean of (log ref - log pi) / tokens of held-out chosen stories, nats a token; below 0: they became likelier.

    Likelihood displacement: DPO can lift the margin while both sides fall, and what was neither
    chosen nor rejected rises (Razin et al., 2024, "Unintentional unalignment: likelihood displacement in
    direct preference optimization").
    """
    return None if metric.logps_change is None else -metric.logps_change


def length_drift(found: Change) -> float | None:
    """How much longer or shorter, as a share of the base's length: 0.25 for 75 or 125 words where the base has 100.

    Length explains much of what DPO learns as reward, beyond what people prefer (Park et al., 2024,
    "Disentangling length from quality in direct preference optimization").
    """
    return abs(found.mean) / found.before if found.before else None


def diversity_loss(found: Change) -> float | None:
    """Fall of the share of a story's 4-word runs that no sister has, as a share of the base's.

    Training on preferences narrows what a policy writes (Kirk et al., 2024, "Understanding the effects of
    RLHF on LLM generalisation and diversity").
    """
    return -found.mean / found.before if found.before else None


def rise(found: Change) -> float:
    """Of a share, in points of it: 0.02 from 3 % to 5 %. Below 0: it has fallen."""
    return found.mean


def rise_limit(points: float | None, percent: float | None, baseline: float) -> float | None:
    """Where both are set the rise must be beyond both: from 0.5 % to 0.8 % is noise, from 30 % to 32 % too.

    points in percentage points, percent of the baseline; the limit as a share.
    """
    limits = [found / 100 for found in (points, None if percent is None else percent * baseline) if found is not None]
    return max(limits, default=None)


# -- a round's findings


def the_limits() -> AlarmLimits:
    """The one row; the shipped ones until an admin has saved it."""
    return AlarmLimits.objects.first() or AlarmLimits(pk=1)


def findings(shown: Round) -> list[Finding]:
    """Everything that is watched, in a fixed order, as it stands now, with the limits of now."""
    limits = the_limits()
    base = shown.policy.lineage()[-1]
    last = shown.metrics.last()
    of_training = [
        _held_out(Watched.KL, last, kl_a_story, limits.kl),
        _held_out(Watched.KL_TOKEN, last, kl_a_token, limits.kl_token),
        _held_out(Watched.CHOSEN_FALL, last, chosen_fall, limits.chosen_fall),
    ]
    return of_training + _of_stories(base, shown.result, limits)


def _held_out(
    kind: Watched, last: RoundMetric | None, measure: Callable[[RoundMetric], float | None], limit: float | None
) -> Finding:
    """Of the held-out pairs after the last step: those of an earlier step say nothing of the result."""
    if last is None or not last.held_out:
        return Finding(kind, None, limit)
    return Finding(kind, measure(last), limit, n=last.stories)


def _of_stories(base: Policy, result: Policy | None, limits: AlarmLimits) -> list[Finding]:
    found = []
    for kind, name, measure, points, percent in (
        (Watched.LENGTH, "mean_words", length_drift, limits.length_percent, None),
        (Watched.REPETITION, "repetition", rise, limits.repetition_points, limits.repetition_percent),
        (Watched.DIVERSITY, "diversity", diversity_loss, limits.diversity_percent, None),
        (Watched.BROKEN, "broken", rise, limits.broken_points, None),
        (Watched.LANGUAGE, "foreign", rise, limits.language_points, None),
        (Watched.CUT_OFF, "cut_off", rise, limits.cut_off_points, None),
    ):
        changed = change(base, result, name) if result else None
        limit = rise_limit(points, percent, changed.before if changed else 0)
        if changed is None:
            found.append(Finding(kind, None, limit))
        else:
            found.append(Finding(kind, measure(changed), limit, changed.after, changed.before, changed.prompts))
    return found


@transaction.atomic
def check_alarms(*, checked: Round) -> list[Finding]:
    """Store the round's alarms as they are now, and take away those that are none any more. Returns all findings.

    Done again it changes nothing.
    """
    found = findings(checked)
    raised = {finding.kind: finding for finding in found if finding.crossed}
    checked.alarms.exclude(kind__in=raised).delete()
    for kind, finding in raised.items():
        values = {"value": finding.value, "limit": finding.limit, "baseline": finding.baseline}
        Alarm.objects.update_or_create(round=checked, kind=kind, defaults=values)
    return found


# -- in words

NOTHING = 5e-4  # less is written as 0 in every unit
OF_HELD_OUT = (Watched.KL, Watched.KL_TOKEN, Watched.CHOSEN_FALL)
WHY_NOT = {
    True: gettext_lazy("no prompts were held out of training"),
    False: gettext_lazy("no prompt has finished stories of both policies"),
}


def written(kind: Watched, number: float | None) -> str:
    """A value or a limit with its unit."""
    return _or_dash(number, UNITS[kind])


def _or_dash(number: float | None, unit: Callable[[float], str]) -> str:
    if number is None:
        return "–"
    return unit(0.0 if abs(number) < NOTHING else number)  # not "-0.0 points"


def _nats_a_story(number: float) -> str:
    return _("%(number).1f nats a story") % {"number": number}


def _nats_a_token(number: float) -> str:
    return _("%(number).3f nats a token") % {"number": number}


def _words(number: float) -> str:
    return _("%(number).0f words") % {"number": number}


def _percent(number: float) -> str:
    return f"{100 * number:.1f} %"


def _points(number: float) -> str:
    return _("%(number).1f points") % {"number": 100 * number}


UNITS = {
    Watched.KL: _nats_a_story,
    Watched.KL_TOKEN: _nats_a_token,
    Watched.CHOSEN_FALL: _nats_a_token,
    Watched.LENGTH: _percent,
    Watched.DIVERSITY: _percent,
    Watched.REPETITION: _points,
    Watched.BROKEN: _points,
    Watched.LANGUAGE: _points,
    Watched.CUT_OFF: _points,
}
