"""What a round that failed or was cancelled has left: its checkpoint, and weights that never became a policy's.

They may be as large as several models. Its record, its frozen pairs, its figures and its logs stay.
"""

import logging
from pathlib import Path

from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from generation import policy_files
from generation.models import Policy
from generation.stores.folders import delete as delete_stored
from generation.stores.folders import left_in_store, size_in_store
from generation.stores.places import apart
from training.models import Round, State
from training.weights import LEFT_BY_TRAINING, CannotDelete

log = logging.getLogger(__name__)


def files_of(shown: Round) -> list[Path]:
    """Of a policy that the round has made nothing: those are deleted with its weights (training/weights.py)."""
    if shown.state not in (State.FAILED, State.CANCELLED):
        return []
    folders = [shown.folder, *sorted((shown.folder / "stages").glob("*"))]
    found = [folder / name for folder in folders for name in LEFT_BY_TRAINING]
    for folder in folders:
        found += sorted(folder.glob("reference-*.safetensors*"))
    # of a round without a result, too: its policy may have been registered when its worker was killed
    kept = [path.resolve() for path in _of_policies()]
    found = [path for path in found if not any(one.is_relative_to(path.resolve()) for one in kept)]
    return [path for path in found if path.exists()]


def _of_policies() -> list[Path]:
    return [path for policy in Policy.objects.with_weights() for path in policy_files.folders(policy)]


def _stored(shown: Round) -> list[Path]:
    """What a worker may have published that was killed before it registered it."""
    kept = _of_policies()
    return [folder for name in ("policy", "merged") if (folder := shown.folder / name) not in kept]


def freed_by_deleting(shown: Round) -> int:
    """Bytes."""
    return policy_files.bytes_in(files_of(shown)) or (sum(map(left_in_store, _stored(shown))) if apart() else 0)


def delete_leftovers(*, round_id: int, by: User | None = None) -> int:
    """Delete them; returns the bytes freed. From then on the round cannot be resumed. Raises CannotDelete, OSError.

    It is marked before the first file goes, so that nobody resumes what is half there. Interrupted, it can be done
    again.
    """
    with transaction.atomic():
        # resume_round() locks the same row in its UPDATE, and asks for the state that is read here
        shown = Round.objects.select_for_update(of=("self",)).get(pk=round_id)
        check_delete(shown)
        if not shown.checkpoint_deleted_at:
            Round.objects.filter(pk=round_id).update(checkpoint_deleted_at=timezone.now())
    for folder in _stored(shown):
        delete_stored(folder)
    freed = policy_files.delete(files_of(shown))
    log.info("round %s: %d bytes of its checkpoint deleted by %s", shown.number, freed, by or "a command")
    return freed


def check_delete(shown: Round) -> None:
    """Raise CannotDelete while the round may need them."""
    if shown.state not in (State.FAILED, State.CANCELLED):
        said = _("Round %(number)d is %(state)s: only of a round that failed or was cancelled is a checkpoint left.")
        raise CannotDelete(said % {"number": shown.number, "state": shown.get_state_display()})
    # with a model store apart they lie on the machine that trained, which clears them away (training/clearing.py)
    here = files_of(shown) or (apart() and not shown.checkpoint_deleted_at)
    if not here and not any(map(size_in_store, _stored(shown))):
        raise CannotDelete(_("Round %(number)d has left nothing to delete.") % {"number": shown.number})
