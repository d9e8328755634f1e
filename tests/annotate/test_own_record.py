"""What an expert reads of themselves, where `_own_record.html` is included."""

import pytest
from django.template.loader import render_to_string

from annotate.models import Expert
from annotate.position import NO_BIAS, PositionBias
from annotate.trust import ExpertRecord, Share

pytestmark = pytest.mark.django_db


def shown(expert: Expert, **fields: object) -> str:
    nothing = {"verdicts": {}, "median_seconds": None, "hurried": Share(), "repeats": 0, "consistency": Share(),
               "gold": Share(), "agreement": Share(), "places": NO_BIAS, "leans": False}  # fmt: skip
    record = ExpertRecord(expert=expert, **{**nothing, **fields})
    return render_to_string("annotate/_own_record.html", {"record": record})


def test_before_the_first_judgement_it_says_what_will_stand_here(expert: Expert) -> None:
    assert "When you have judged your first stories" in shown(expert)


def test_it_counts_every_answer_so_that_silent_checks_do_not_show(expert: Expert) -> None:
    expert.judged = 7
    assert "You have judged 7 comparisons" in shown(expert, verdicts={"ranked": 5})


def test_steadiness_is_told_in_pairs(expert: Expert) -> None:
    expert.judged = 20
    assert "you gave the same order in 8 of 10 pairs" in shown(expert, consistency=Share(8, 10))


def test_a_few_pairs_say_nothing(expert: Expert) -> None:
    expert.judged = 20
    assert "not enough yet to say" in shown(expert, consistency=Share(1, 4))


@pytest.mark.parametrize(
    ("seconds", "words"), [(40, "less than a minute"), (61, "about 1 minute."), (130, "about 2 minutes.")]
)
def test_the_typical_time_is_in_minutes(expert: Expert, seconds: float, words: str) -> None:
    expert.judged = 20
    assert words in shown(expert, median_seconds=seconds, hurried=Share(0, 20))


def test_it_says_nothing_of_gold_or_of_others(expert: Expert) -> None:
    expert.judged = 20
    plain = shown(expert)
    assert (
        shown(
            expert, gold=Share(0, 9), agreement=Share(1, 90), places=PositionBias([9, 0], [4.5, 4.5], 0.001), leans=True
        )
        == plain
    )
