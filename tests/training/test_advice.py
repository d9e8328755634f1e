"""The advice says what the figures say, and every reason against it that there is."""

import re

import pytest

from annotate.judgements import record_judgement
from annotate.models import Audience, Comparison, Heard, Kind, Listening, ListeningSession
from annotate.queue import assign
from generation.models import Language
from tests.factories import make_expert, make_policy
from tests.training.stories import decayed, judge_all, judged_round
from tests.training.test_models import make_round
from training.advice import advise
from training.models import Round

pytestmark = pytest.mark.django_db


def against(shown: Round) -> str:
    return " ".join(advise(shown).reasons_against)


class TestSentence:
    def test_a_clear_win_is_said_with_its_interval_and_n_and_what_did_not_change(self) -> None:
        shown = judged_round()
        judge_all(shown)
        sentence = advise(shown).sentence
        pattern = r"Round 1 beats base: 100 % \[\d\d, 100\], n = 24; (.+); (.+) unchanged; (.+) unchanged\."
        assert re.fullmatch(pattern, sentence), sentence

    def test_what_did_change_is_named_with_its_figures(self) -> None:
        shown = judged_round(decayed)
        sentence = advise(shown).sentence
        assert "; stories are " in sentence
        assert re.search(r"repetition up from \d\.\d to \d\d\.\d %", sentence), sentence
        assert re.search(r"diversity down from \d\d\.\d to \d?\d\.\d %", sentence), sentence

    def test_a_round_before_is_called_by_its_number(self) -> None:
        before = make_round(result=make_policy(), state="promoted")
        shown = judged_round(base=before.result, number=2)
        assert advise(shown).sentence.startswith("Round 2 has not been judged against round 1 yet; ")

    def test_a_round_that_has_made_nothing_has_to_wait(self) -> None:
        assert advise(make_round()).verdict == "wait"


class TestVerdict:
    def test_a_clear_win_without_any_reason_against_is_to_be_promoted(self) -> None:
        shown = judged_round()
        judge_all(shown)
        found = advise(shown)
        assert (found.verdict, found.reasons_against) == ("promote", [])
        assert found.reasons_for[0].startswith("Experts prefer it to base: 100 % [")
        assert "No alarm, in 8 figures that are watched." in found.reasons_for

    def test_a_clear_loss_is_to_be_rejected(self) -> None:
        shown = judged_round()
        judge_all(shown, wins=0)
        found = advise(shown)
        assert found.verdict == "reject"
        assert found.reasons_against[0].startswith("Experts prefer base: 0 % [")

    def test_a_win_with_alarms_is_for_an_admin_to_weigh(self) -> None:
        shown = judged_round(decayed)
        judge_all(shown)
        found = advise(shown)
        assert found.verdict == "unclear"
        assert "Alarm, rise of repetition: " in " ".join(found.reasons_against)

    def test_too_few_judgements_wait_for_more_and_say_how_many(self) -> None:
        shown = judged_round()
        judge_all(shown, experts=[make_expert()])
        found = advise(shown)
        assert found.verdict == "wait"
        assert "at least 12 more are needed" in found.reasons_against[0]

    def test_an_interval_that_reaches_a_half_says_about_how_many_more_would_decide_it(self) -> None:
        shown = judged_round(prompts=6)
        judge_all(shown, wins=0.67)
        found = advise(shown)
        assert found.verdict == "unclear"  # every place is filled
        assert re.search(r"reaches 50 %: about \d+ more judgements would decide it", found.reasons_against[0])


class TestReasonsAgainst:
    def test_an_audience_that_prefers_the_old_one_is_named(self) -> None:
        shown = judged_round(prompts=5)
        judge_all(shown, experts=[make_expert(Audience.EDUCATOR) for _ in range(2)])
        judge_all(shown, experts=[make_expert(Audience.PARENT) for _ in range(2)], wins=0)
        assert re.search(r"[Pp]arents?: the old one is preferred: 0 % \[0, \d+\], n = 20\.", against(shown))

    def test_children_who_prefer_the_old_one_are_named(self) -> None:
        shown = judged_round(prompts=5)
        adult = make_expert().user
        for _ in range(2):
            session = ListeningSession.objects.create(
                adult=adult,
                language=Language.ENGLISH,
                age_band="5-6",
                consented_at=shown.created_at,
                consent_version="1",
            )
            for number, comparison in enumerate(Comparison.objects.filter(policy=shown.result), start=1):
                new, old = sorted(comparison.stories.all(), key=lambda story: story.policy != shown.result)
                Listening.objects.create(
                    session=session, comparison=comparison, number=number, first=new, second=old, choice=old,
                    first_picture="sun", second_picture="moon", first_on_left=True, asked_about=new,
                    outcome=Heard.CHOSEN, answered_at=shown.created_at,
                )  # fmt: skip
        assert "Children choose the old stories: 0 % [" in against(shown)

    def test_simulated_experts_alone_are_named(self) -> None:
        shown = judged_round(include_simulated=True)
        judge_all(shown, experts=[make_expert(simulated=True) for _ in range(3)])
        found = advise(shown)
        assert (found.verdict, found.reasons_against) == ("unclear", ["Only simulated experts have judged."])

    def test_simulated_experts_say_nothing_in_a_round_that_does_not_count_them(self) -> None:
        shown = judged_round()
        judge_all(shown, experts=[make_expert(simulated=True) for _ in range(3)])
        assert advise(shown).sentence.startswith("Round 1 has not been judged against base yet")

    def test_experts_who_contradict_each_other_are_not_trusted(self) -> None:
        shown = judged_round(prompts=16)
        judge_all(shown, experts=[make_expert()])
        judge_all(shown, experts=[make_expert()], wins=0)
        assert "Experts agree hardly more than by chance: alpha -" in against(shown)

    def test_a_screen_place_that_sways_the_choice_is_named(self) -> None:
        shown = judged_round(prompts=16)
        expert = make_expert()
        for comparison in Comparison.objects.filter(policy=shown.result):
            assignment = assign(comparison, expert, None, Kind.ORDINARY)
            record_judgement(assignment=assignment, verdict="ranked", ranks={1: 1, 2: 2})
        assert "the first story wins 100 %, by chance 50 %" in against(shown)
