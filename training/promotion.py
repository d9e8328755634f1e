"""When a round is promoted without an admin: the rule.

The rule looks at a round once, when every place of its blind comparisons is filled: how many judgements
that takes was settled before the first of them. Looking again and again until the interval leaves out 50 %
would promote by chance far more often than the interval says (Armitage, McPherson & Rowe, 1969, "Repeated
significance tests on accumulating data"). What it leaves is for an admin to decide.
"""

from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.translation import gettext as _

from annotate.models import Comparison, Place, Purpose
from annotate.winrates import WinRate, win_rate
from generation.models import Policy
from training.alarms import Finding, check_alarms, findings
from training.models import PromotionRule, Round, State
from training.rounds import promote_round


def the_rule() -> PromotionRule:
    """The one row; as it ships, off, until an admin has saved it."""
    return PromotionRule.objects.first() or PromotionRule(pk=1)


def counts_simulated(shown: Round) -> bool:
    """Both the round and the rule say so: else simulated experts promote nothing."""
    return shown.include_simulated and the_rule().include_simulated


def counted_win_rate(shown: Round, baseline: Policy) -> WinRate:
    """The one that the rule goes by."""
    assert shown.result is not None
    return win_rate(shown.result, baseline, people=not counts_simulated(shown))


def all_judged(shown: Round) -> bool:
    """No place of its blind comparisons is left to fill."""
    ours = Q(comparison__purpose=Purpose.EVALUATION, comparison__policy=shown.result)
    compared = Comparison.objects.filter(purpose=Purpose.EVALUATION, policy=shown.result)
    return shown.result is not None and compared.exists() and not Place.objects.wanted().filter(ours).exists()


def waits_for_an_admin(shown: Round) -> bool:
    """All its blind comparisons are judged, and the rule does not decide, or has left it to an admin."""
    left = shown.rule_looked_at is not None or not the_rule().automatic
    return shown.state == State.JUDGING and left and all_judged(shown)


def may_promote_itself(shown: Round) -> tuple[bool, list[str]]:
    """Whether the rule would promote the round now, and why not."""
    if shown.state != State.JUDGING:
        return False, [_("Only a round that is being judged can be promoted.")]
    reasons = reasons_against(shown)
    if shown.rule_looked_at:
        reasons.insert(0, _("The rule has looked at this round once and left it to an admin."))
    elif not all_judged(shown):
        reasons.insert(0, _("Not all blind comparisons are judged yet: the rule looks once, when they are."))
    return not reasons, reasons


def reasons_against(shown: Round, found: list[Finding] | None = None) -> list[str]:
    """What the rule has against the round as it stands, for a person; empty if nothing. found: its alarms' figures."""
    if shown.result is None:
        return [_("There is no new policy.")]
    reasons = [reason for baseline in shown.baselines() if (reason := _against(shown, baseline))]
    return reasons + [finding.reason for finding in (findings(shown) if found is None else found) if finding.reason]


def _against(shown: Round, baseline: Policy) -> str:
    """Above the policy before the round must be for sure; against the base it is enough not to be below."""
    rate = counted_win_rate(shown, baseline)
    words = {"baseline": baseline, "rate": rate.percent, "low": rate.percent_low, "high": rate.percent_high}
    if not rate.enough or rate.low is None or rate.high is None:
        said = _("Not enough judgements against %(baseline)s that count: n = %(n)d, experts: %(experts)d.")
        return said % {**words, "n": rate.n, "experts": rate.judges}
    if baseline == shown.policy and rate.low <= 0.5:
        return _("Against %(baseline)s the interval is not above 50 %%: %(rate)d %% [%(low)d, %(high)d].") % words
    if rate.high < 0.5:
        return _("It loses against %(baseline)s: %(rate)d %% [%(low)d, %(high)d].") % words
    return ""


@transaction.atomic
def promote_if_due() -> Round | None:
    """Promote the round that waits, if it is switched on and the rule has nothing against it.

    It decides once. Two beats at once promote once: the second finds the round's row locked, or decided.
    """
    if not the_rule().automatic:
        return None
    waiting = Round.objects.filter(state=State.JUDGING, rule_looked_at=None).select_related("policy", "result")
    shown = waiting.select_for_update(of=("self",), skip_locked=True).first()
    if shown is None or not all_judged(shown):
        return None
    reasons = reasons_against(shown, check_alarms(checked=shown))
    said = f"Left to an admin by the rule: {' '.join(reasons)}" if reasons else f"Promoted by the rule: {_won(shown)}"
    message = "\n".join(filter(None, (shown.message, said)))
    Round.objects.filter(pk=shown.pk).update(rule_looked_at=Now(), message=message)
    return None if reasons else promote_round(round_id=shown.pk)


def _won(shown: Round) -> str:
    rates = [(baseline, counted_win_rate(shown, baseline)) for baseline in shown.baselines()]
    said = [
        f"{rate.percent} % [{rate.percent_low}, {rate.percent_high}] against {baseline}, n = {rate.n}"
        for baseline, rate in rates
    ]
    return f"{'; '.join(said)}; no alarm."
