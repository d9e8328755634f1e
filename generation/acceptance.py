"""Whether a draw is kept: not empty, whole, in the prompt's language, and unlike its sisters."""

from collections.abc import Collection

from generation.engines.values import LENGTH, TOO_LONG, Completion
from generation.measures import foreign_share, overlap, runs_of
from generation.models import Fault

# Two stories are nearly the same if they share so much of their 4-word runs (Jaccard index).
NEARLY_THE_SAME = 0.8
# A story is in the wrong language if so much of its letters are of another script.
MOSTLY_FOREIGN = 0.3


class Sisters:
    """The kept stories of one prompt, as far as a new one has to be compared with them."""

    def __init__(self, language: str, texts: Collection[str] = ()) -> None:
        self.language = language
        self._texts = set(texts)
        self._runs = [runs_of(text, language) for text in texts]

    def add(self, text: str) -> None:
        self._texts.add(text)
        self._runs.append(runs_of(text, self.language))

    def fault(self, text: str) -> str:
        """SAME, NEAR, or "" if no sister is like `text`."""
        if text in self._texts:
            return Fault.SAME
        found = runs_of(text, self.language)
        return Fault.NEAR if any(overlap(found, other) >= NEARLY_THE_SAME for other in self._runs) else ""


def fault_of(completion: Completion, text: str, sisters: Sisters, *, cut_off_is_kept: bool = False) -> str:
    """Why `text`, the completion's as it would be stored, is not kept; "" if it is."""
    if completion.finish_reason == TOO_LONG:
        return Fault.TOO_LONG
    if not any(character.isalpha() for character in text):
        return Fault.EMPTY
    if completion.finish_reason == LENGTH and not cut_off_is_kept:
        return Fault.CUT_OFF
    if foreign_share(text, sisters.language) >= MOSTLY_FOREIGN:
        return Fault.LANGUAGE
    return sisters.fault(text)
