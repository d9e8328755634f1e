"""Deleting what a round that failed or was cancelled has left."""

from collections.abc import Callable
from functools import partial

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from annotate.permissions import AdminRequest, admin_required
from generation.engines.values import EngineError
from training.leftovers import delete_leftovers
from training.models import Round
from training.weights import CannotDelete


@admin_required
@require_POST
def delete_checkpoint(request: AdminRequest, number: int) -> HttpResponse:
    """The checkpoint, and trained weights that no policy has come of."""
    found = get_object_or_404(Round, number=number)
    if "sure" not in request.POST:
        messages.error(request, _("Tick that the checkpoint shall be deleted: it cannot be brought back."))
    else:
        done = _("Deleted: %(size)s are free. The round's record, pairs, figures and logs are kept.")
        delete_and_say(request, partial(delete_leftovers, round_id=found.pk, by=request.user), done)
    return redirect("show_round", number)


def delete_and_say(request: HttpRequest, delete: Callable[[], int], done: str) -> None:
    """`delete`, which returns the bytes freed, and a message of what came of it. done: with %(size)s."""
    try:
        freed = delete()
    except CannotDelete as error:
        messages.error(request, str(error))
    except (OSError, EngineError) as error:
        said = _("Not all could be deleted (%(error)s). Mend it, and delete again.")
        messages.error(request, said % {"error": error})
    else:
        messages.success(request, done % {"size": filesizeformat(freed)})
