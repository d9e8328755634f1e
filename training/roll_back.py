"""Going back to a policy that was in use before."""

from django.contrib.auth.models import User
from django.db import transaction
from django.utils.translation import gettext as _

from annotate.comparisons import close_comparisons, reopen_preference_comparisons
from annotate.models import Comparison
from generation.engines.loading import check_model_directory
from generation.engines.values import EngineError
from generation.models import Policy
from generation.policies import make_current, require_weights
from training.changes import PolicyChange, Why, record_change
from training.models import Round, State


class CannotRollBack(ValueError):
    """The policy cannot be used again now; the message says why and what to do."""


@transaction.atomic
def roll_back(*, policy_id: int, by: User | None = None) -> PolicyChange:
    """Make an earlier policy the current one; the queue follows. Raises CannotRollBack.

    Whoever launches a round or promotes one waits for the same rows: only one of them comes first.
    """
    policies = {policy.pk: policy for policy in Policy.objects.select_for_update().order_by("pk")}
    earlier = policies[policy_id]
    check_roll_back(earlier)
    before = next(policy for policy in policies.values() if policy.is_current)
    make_current(policy=earlier)
    close_comparisons(Comparison.objects.open())
    reopen_preference_comparisons(policy=earlier)
    return record_change(policy=earlier, before=before, why=Why.ROLLED_BACK, by=by)


def check_roll_back(policy: Policy) -> None:
    """Raise CannotRollBack if `policy` cannot take the place of the current one now."""
    if policy.is_current:
        raise CannotRollBack(_("%(policy)s is in use already.") % {"policy": policy.name})
    made_by = Round.objects.filter(result=policy).first()
    if made_by and made_by.state != State.PROMOTED:
        raise CannotRollBack(
            _("%(policy)s was never in use: round %(number)d is %(state)s.")
            % {"policy": policy.name, "number": made_by.number, "state": made_by.get_state_display()}
        )
    if undecided := Round.objects.undecided().first():
        raise CannotRollBack(
            _("Round %(number)d is not over: wait for it, or promote, reject or cancel it first.")
            % {"number": undecided.number}
        )
    try:
        require_weights(policy)
        check_model_directory(policy.directory)
    except EngineError as error:
        raise CannotRollBack(str(error)) from error
