"""Registering policies: a directory becomes a row only when it can be loaded."""

from pathlib import Path

from django.db import transaction

from generation.engines.loading import check_model_directory
from generation.engines.values import EngineError, adapter_hash, weights_hash
from generation.models import Policy


@transaction.atomic
def register_policy(*, name: str, path: Path, adapter_path: Path | None = None, parent: Policy | None = None) -> Policy:
    """The policy for these weights, new or known. EngineError if `path` is not a model directory,
    or the name belongs to other weights.

    The first policy of all becomes the current one.
    """
    check_model_directory(path)
    found = weights_hash(path)
    policy, _ = Policy.objects.get_or_create(
        name=name,
        defaults={
            "path": str(path),
            "adapter_path": str(adapter_path or ""),
            "parent": parent,
            "weights_hash": found,
            "adapter_hash": adapter_hash(adapter_path) if adapter_path else "",
        },
    )
    if policy.weights_hash != found:
        raise EngineError(f"There is a policy {name} with other weights already. Choose another name.")
    if not Policy.objects.current():
        make_current(policy=policy)
    return policy


@transaction.atomic
def make_current(*, policy: Policy) -> None:
    """From now on `policy` writes the stories that experts rank."""
    # locked in one order, and all of them: update() alone would not wait for another promotion
    list(Policy.objects.select_for_update().order_by("pk"))
    Policy.objects.filter(is_current=True).update(is_current=False)
    Policy.objects.filter(pk=policy.pk).update(is_current=True)
    policy.is_current = True
