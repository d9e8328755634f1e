"""Reasons that an expert gives with one touch: for the best story and against the worst.

What an educator, a parent and a writer look at differs, and so do their chips; the codes are kept
for ever, the words may change.
"""

from collections.abc import Iterable

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from annotate.models import Audience

Chips = dict[str, str | Promise]

EVERYBODY_FOR: Chips = {
    "clear_structure": _("clear beginning, middle and end"),
    "right_words": _("words that fit the age"),
    "good_message": _("a message worth taking home"),
}
EVERYBODY_AGAINST: Chips = {
    "no_ending": _("no real ending"),
    "hard_words": _("words too hard"),
    "no_message": _("no message, or a preached one"),
    "does_not_make_sense": _("does not make sense"),
    "repeats_itself": _("repeats itself"),
}
FOR: dict[str, Chips] = {
    Audience.EDUCATOR: {"to_talk_about": _("gives something to talk about"), "teaches": _("children learn from it")},
    Audience.PARENT: {"to_read_aloud": _("good to read aloud"), "warm": _("warm and comforting")},
    Audience.WRITER: {"characters": _("characters that live"), "own_voice": _("a voice of its own")},
}
AGAINST: dict[str, Chips] = {
    Audience.EDUCATOR: {"wrong_facts": _("teaches something wrong"), "off_the_prompt": _("not what was asked for")},
    Audience.PARENT: {"frightening": _("too frightening"), "boring": _("boring")},
    Audience.WRITER: {"cliche": _("worn-out phrases"), "flat": _("flat characters")},
}
KNOWN_FOR = {code for chips in (EVERYBODY_FOR, *FOR.values()) for code in chips}
KNOWN_AGAINST = {code for chips in (EVERYBODY_AGAINST, *AGAINST.values()) for code in chips}


def chips_for(audience: str) -> Chips:
    return {**EVERYBODY_FOR, **FOR[audience]}


def chips_against(audience: str) -> Chips:
    return {**EVERYBODY_AGAINST, **AGAINST[audience]}


def known_chips(reasons_for: Iterable[str], reasons_against: Iterable[str]) -> bool:
    return set(reasons_for) <= KNOWN_FOR and set(reasons_against) <= KNOWN_AGAINST


def chip_labels(codes: Iterable[str]) -> list[str | Promise]:
    """What the codes say, whoever was offered them."""
    known = {code: label for chips in (EVERYBODY_FOR, EVERYBODY_AGAINST, *FOR.values(), *AGAINST.values())
             for code, label in chips.items()}  # fmt: skip
    return [known.get(code, code) for code in codes]
