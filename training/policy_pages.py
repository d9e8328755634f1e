"""What admins read about policies."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.db.models import Q

from annotate.winrates import WinRate, win_rate
from generation import policy_files
from generation.models import Policy
from generation.stores.folders import seen
from training.changes import PolicyChange
from training.model_card import license_of, model_card
from training.models import Round
from training.roll_back import CannotRollBack, check_roll_back
from training.weights import CannotDelete, check_delete, freed_by_deleting

KEPT, DELETED, MISSING = "kept", "deleted", "missing"


@dataclass(frozen=True)
class Row:
    """A policy in the list. size: bytes on the disk. rate: against the policy before."""

    policy: Policy
    made_by: Round | None
    size: int
    rate: WinRate | None

    @property
    def weights(self) -> str:
        if self.policy.weights_deleted_at:
            return DELETED
        return KEPT if any(self.policy.directory.glob("*.safetensors")) else MISSING


def rows() -> list[Row]:
    """Newest first."""
    found = Policy.objects.select_related("parent", "made_by__policy").order_by("-pk")
    return [row_of(policy) for policy in found]


def row_of(policy: Policy) -> Row:
    made_by: Round | None = getattr(policy, "made_by", None)
    rate = win_rate(policy, made_by.policy, people=not made_by.include_simulated) if made_by else None
    return Row(policy, made_by, policy_files.size_of(policy), rate)


def page(policy: Policy) -> dict[str, Any]:
    """All that a policy's page says."""
    row = row_of(policy)
    changes = PolicyChange.objects.filter(Q(policy=policy) | Q(before=policy))
    return {
        "row": row,
        "policy": policy,
        "lineage": policy.lineage()[1:],
        "license": license_of(policy),
        "card": model_card(policy),
        "changes": changes.select_related("policy", "before", "by"),
        "next_rounds": policy.rounds.order_by("number"),
        "has_adapter": bool(policy.adapter_path) and not policy.weights_deleted_at,
        "full_size": policy_files.size_of_folder(policy.directory),
        "adapter_size": policy_files.size_of_folder(seen(Path(policy.adapter_path))) if policy.adapter_path else 0,
        "against_roll_back": _reason(check_roll_back, policy, CannotRollBack),
        "against_deleting": _reason(check_delete, policy, CannotDelete),
        "freed": freed_by_deleting(policy),
    }


def _reason(check: Any, policy: Policy, refused: type[Exception]) -> str:
    try:
        check(policy)
    except refused as error:
        return str(error)
    return ""
