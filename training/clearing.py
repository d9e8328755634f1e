"""What lies on this machine and is needed no more: with a model store apart, who deletes is on another one."""

import logging
from pathlib import Path

from django.conf import settings
from django.db.models import Q

from generation import policy_files
from generation.models import Policy
from generation.stores import cache
from generation.stores.places import apart
from training import leftovers, weights
from training.models import Round, State

log = logging.getLogger(__name__)


def clear_away() -> None:
    """Delete checkpoints and weights that were deleted elsewhere, and checkpoints of rounds that are over."""
    if not apart():
        return
    try:
        cache.clear_away()
        for policy in Policy.objects.exclude(weights_deleted_at=None):
            for folder in filter(policy_files.is_ours, policy_files.folders(policy)):
                cache.forget(folder)
        for shown in Round.objects.filter(
            Q(state__in=(State.PROMOTED, State.REJECTED)) | ~Q(checkpoint_deleted_at=None)
        ):
            if shown.folder.is_dir():
                policy_files.delete(_left(shown))
    except OSError as error:
        log.warning("%s was not cleared: %s", settings.MODEL_DIR, error)


def _left(shown: Round) -> list[Path]:
    """Of a round that has a policy, not that policy: its copy goes when room is short (generation/stores/cache.py)."""
    if shown.checkpoint_deleted_at:
        return leftovers.files_of(shown)
    folder = shown.folder
    kept = [folder / name for name in weights.LEFT_BY_TRAINING if not name.startswith(("policy", "merged"))]
    return [path for path in (*kept, *folder.glob("reference-*.safetensors*")) if path.exists()]
