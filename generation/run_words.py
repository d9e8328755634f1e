"""What the workers of a writing run did: figures first, so that a page can say them in its reader's language."""

from collections import Counter
from typing import Any

from django.conf import settings
from django.utils.translation import gettext as _

from generation.models import Fault, WritingRun
from generation.plan import MAX_DRAWS


def facts(run: WritingRun) -> dict[str, int]:
    """Counts, of stories and of places; tokens: where a story is cut off."""
    drawn_again = sum(run.redraws.values_list("draws", flat=True))
    empty = Counter(run.empty_places.values_list("fault", flat=True))
    return {
        "stored": run.stored,
        "drawn_again": max(drawn_again - empty.total(), 0),
        "cut_off": run.cut_off,
        "too_long": empty[Fault.TOO_LONG],
        "given_up": empty.total() - empty[Fault.TOO_LONG],
        "draws": MAX_DRAWS,
        "tokens": settings.MAX_STORY_TOKENS,
    }


def in_words(found: dict[str, Any]) -> str:
    """For a person, with what to do about stories that went wrong."""
    lines = [_("Stories written: %(stored)d; drawn again: %(drawn_again)d.")]
    if found["cut_off"]:
        lines.append(
            _(
                "Cut off at %(tokens)d tokens: %(cut_off)d. They are kept, but not shown to experts and not trained "
                "on. Raise STORYLOOP_MAX_STORY_TOKENS if there are many."
            )
        )
    if found["too_long"]:
        lines.append(
            _(
                "Places that stay empty: %(too_long)d, whose prompt and %(tokens)d tokens for the story do not fit the "
                "model. Shorten the prompt, or lower STORYLOOP_MAX_STORY_TOKENS."
            )
        )
    if found["given_up"]:
        lines.append(
            _(
                "Places that stay empty: %(given_up)d, for which the policy wrote %(draws)d times a story that is "
                "empty, like another one of the prompt, or in the wrong language."
            )
        )
    return " ".join(line % found for line in lines)
