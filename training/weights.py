"""Deleting a policy's weights; its record, its stories and its figures stay."""

from pathlib import Path

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from generation import policy_files
from generation.licenses import stated_license
from generation.models import JudgeModel, Policy, WritingRun
from generation.stores.faults import ABSENT, StoreFault
from generation.stores.folders import delete as delete_stored
from generation.stores.folders import left_in_store, seen_or_fault, size_in_store
from generation.stores.places import apart
from training.models import Round

LEFT_BY_TRAINING = (
    "policy", "policy.new", "merged", "merged.new",
    *(f"{name}{suffix}" for name in ("checkpoint", "best") for suffix in ("", ".old", ".new")),
)  # fmt: skip


class CannotDelete(ValueError):
    """The weights are needed, or are not ours; the message says by what, and what to do."""


def files_of(policy: Policy) -> list[Path]:
    """Full weights, adapter, and what the policy's round has left beside them. Logs and figures are not among them."""
    found = policy_files.folders(policy)
    made_by = Round.objects.filter(result=policy).first()
    if made_by:
        folder = made_by.folder
        found += [folder / name for name in LEFT_BY_TRAINING]
        found += sorted(folder.glob("reference-*.safetensors"))
    return list(dict.fromkeys(found))


def freed_by_deleting(policy: Policy) -> int:
    """Bytes. Of weights that were deleted: what an interrupted deletion has left."""
    here = policy_files.bytes_in(path for path in files_of(policy) if policy_files.is_ours(path))
    if not apart():
        return here
    if not policy.weights_deleted_at:
        return max(here, policy_files.size_of(policy))
    return max(here, sum(map(left_in_store, policy_files.folders(policy))))


def delete_weights(*, policy_id: int) -> int:
    """Delete the policy's files; returns the bytes freed. Raises CannotDelete, StoreFault, OSError.

    They are marked before the first file goes, so that nobody takes up what is half there. Interrupted, it can
    be done again.
    """
    with transaction.atomic():
        # all rows, as roll_back() and make_current() do: what needs these weights comes before or after, not between
        policies = {policy.pk: policy for policy in Policy.objects.select_for_update().order_by("pk")}
        policy = policies[policy_id]
        check_delete(policy)
        if not policy.weights_deleted_at:
            # what only the folder says, and model cards of what came of it still need
            license = policy.license or stated_license(_directory(policy))
            Policy.objects.filter(pk=policy.pk).update(weights_deleted_at=timezone.now(), license=license)
    stored = sum(map(size_in_store, policy_files.folders(policy)))
    for folder in policy_files.folders(policy):
        delete_stored(folder)
    return max(policy_files.delete(files_of(policy)), stored)


def _directory(policy: Policy) -> Path:
    """Raises StoreFault if the store does not answer: what its files say would be lost."""
    try:
        return seen_or_fault(Path(policy.path))
    except StoreFault as error:
        if error.code in ABSENT:
            raise
        return Path(policy.path)


def check_delete(policy: Policy) -> None:
    """Raise CannotDelete if the weights of `policy` have to stay."""
    reason = _in_use(policy) or _needed_by(policy) or _not_ours(policy)
    if reason:
        raise CannotDelete(reason)


def _in_use(policy: Policy) -> str:
    words = {"policy": policy.name}
    if policy.is_current:
        return _("%(policy)s is in use: promote another policy, or roll back to one, first.") % words
    undecided = Round.objects.undecided().select_related("policy", "result").first()
    if undecided and policy in (undecided.result, *undecided.baselines()):
        said = _(
            "Round %(number)d works with %(policy)s and is not over: wait for it, or promote, reject or cancel it."
        )
        return said % {**words, "number": undecided.number}
    if WritingRun.objects.at_work().filter(policy=policy).exists():
        return _("%(policy)s is writing stories: wait for the run to end, or cancel it.") % words
    if JudgeModel.objects.filter(policy=policy).exists():
        return _("%(policy)s is the judge model that reads stories: choose another one first.") % words
    return ""


def _needed_by(policy: Policy) -> str:
    """An adapter is nothing without the weights that it was trained on, and two rows may name the same files."""
    others = Policy.objects.with_weights().exclude(pk=policy.pk)
    if child := others.filter(parent=policy).exclude(adapter_path="").first():
        said = _("The adapter of %(other)s stands on these weights: delete the weights of %(other)s first.")
        return said % {"other": child.name}
    ours = [path.resolve() for path in files_of(policy)]
    for other in others:
        for path in (path.resolve() for path in policy_files.folders(other)):
            if any(path.is_relative_to(one) or one.is_relative_to(path) for one in ours):
                return _("%(other)s has files in the same folder: %(path)s.") % {"other": other.name, "path": path}
    return ""


def _not_ours(policy: Policy) -> str:
    strangers = policy_files.outside(policy_files.folders(policy))
    if not strangers:
        return ""
    said = _("%(path)s does not lie in %(ours)s, the model directory of this installation: delete it by hand.")
    return said % {"path": strangers[0], "ours": settings.MODEL_DIR}
