"""Registering policies: a directory becomes a row only when it can be loaded."""

from pathlib import Path

from django.conf import settings
from django.db import transaction
from django.utils.formats import date_format
from django.utils.translation import gettext as _

from generation.engines.values import EngineError, adapter_hash, weights_hash
from generation.engines.whole import require_whole
from generation.models import Policy
from generation.stores.folders import publish
from generation.stores.places import apart, is_kept, store


def require_weights(policy: Policy) -> None:
    """Raise EngineError, saying since when, if the weights of `policy` were deleted."""
    if policy.weights_deleted_at:
        raise EngineError(
            _("The weights of %(policy)s were deleted on %(date)s; its record is kept. Choose another policy.")
            % {"policy": policy.name, "date": date_format(policy.weights_deleted_at, "Y-m-d")}
        )


def register_policy(*, name: str, path: Path, adapter_path: Path | None = None, parent: Policy | None = None) -> Policy:
    """The policy for these weights, new or known. EngineError if `path` is not a whole model's directory,
    or the name belongs to other weights. StoreFault, OSError if they cannot be put into the model store.

    The first policy of all becomes the current one. Weights that were deleted and are back are used again.
    """
    require_whole(path)
    found = weights_hash(path)
    _check_name(name, found)  # before other weights are put in the place of these
    if adapter_path:
        publish(adapter_path)
    return _register(name, _published(path, found), found, adapter_path, parent)


def _check_name(name: str, found: str) -> None:
    if Policy.objects.filter(name=name).exclude(weights_hash=found).exists():
        raise EngineError(f"There is a policy {name} with other weights already. Choose another name.")


def _published(path: Path, found: str) -> Path:
    """Where the weights lie from now on: of those from outside of this installation, the store has a copy."""
    if not apart():
        return path
    if not Policy.objects.exists():  # a new installation: its store is new, too
        store().begin()
    place = path if is_kept(path) else Path(settings.MODEL_DIR) / f"base-{found[:24]}"
    publish(place, source=path)
    return place


@transaction.atomic
def _register(name: str, path: Path, found: str, adapter_path: Path | None, parent: Policy | None) -> Policy:
    policy, new = Policy.objects.get_or_create(
        name=name,
        defaults={
            "path": str(path),
            "adapter_path": str(adapter_path or ""),
            "parent": parent,
            "weights_hash": found,
            "adapter_hash": adapter_hash(adapter_path) if adapter_path else "",
        },
    )
    _check_name(name, found)
    if policy.weights_deleted_at and not new:
        policy.path, policy.adapter_path = str(path), str(adapter_path or "")
        policy.weights_deleted_at = None
        policy.save(update_fields=["path", "adapter_path", "weights_deleted_at"])
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
