"""A round promotes itself by the stated rule only, and nobody can talk it into more."""

import random
import threading

import pytest
from django.conf import settings
from django.db import connection

from annotate.comparisons import open_evaluation_comparisons
from annotate.models import Comparison, Place
from config.celery import app
from generation.models import Policy, Prompt
from tests.factories import make_expert, make_policy
from tests.training.stories import decayed, healthy, judge, judge_all, judged_round, write_for
from training.models import PromotionRule, Round, State
from training.promotion import may_promote_itself, promote_if_due, reasons_against
from training.tasks import promote_due_round

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _rule(db: None) -> None:
    PromotionRule.objects.create(automatic=True)


def after_the_beat() -> Round:
    promote_due_round()
    return Round.objects.get(number=1)


def test_a_round_that_clearly_wins_without_alarms_promotes_itself() -> None:
    judge_all(judged_round())
    done = after_the_beat()
    assert done.state == State.PROMOTED
    assert Policy.objects.current() == done.result
    assert done.rule_looked_at
    assert done.message.startswith("Promoted by the rule: 100 % [")
    assert "against base, n = 24; no alarm." in done.message


def test_it_is_off_until_an_admin_switches_it_on() -> None:
    PromotionRule.objects.all().delete()
    judge_all(judged_round())
    assert after_the_beat().state == State.JUDGING


def test_decayed_text_does_not_promote_itself_even_if_everybody_prefers_it() -> None:
    judge_all(judged_round(decayed))
    done = after_the_beat()
    assert done.state == State.JUDGING
    assert "Alarm, rise of repetition" in done.message
    assert done.alarms.exists()


def test_what_was_not_measured_blocks_as_an_alarm_does() -> None:
    judge_all(judged_round(measured=False))
    done = after_the_beat()
    assert done.state == State.JUDGING
    assert "no prompts were held out of training" in done.message


def test_an_interval_that_reaches_a_half_is_left_to_an_admin() -> None:
    judge_all(judged_round(), wins=0.5)
    done = after_the_beat()
    assert (done.state, done.alarms.count()) == (State.JUDGING, 0)
    assert "the interval is not above 50 %" in done.message


def test_it_does_not_look_before_every_place_is_filled() -> None:
    """However clearly the round leads: who looks until it suits them finds what they want."""
    shown = judged_round()
    judge_all(shown, experts=[make_expert(), make_expert()])
    assert Place.objects.wanted().filter(comparison__policy=shown.result).exists()
    done = after_the_beat()
    assert (done.state, done.rule_looked_at, done.message) == (State.JUDGING, None, "")


def test_it_decides_once() -> None:
    shown = judged_round()
    experts = [make_expert() for _ in range(3)]
    judge_all(shown, wins=0.5, experts=experts)
    after_the_beat()
    for number, comparison in enumerate(Comparison.objects.filter(policy=shown.result)):  # come late, as extras
        for _ in range(1 + number % 2):
            judge(comparison, make_expert(), new_wins=True)
    before = Round.objects.values().get()
    after_the_beat()
    assert Round.objects.values().get() == before
    assert may_promote_itself(Round.objects.get())[1][0].startswith("The rule has looked at this round once")


class TestSimulatedExperts:
    def judged(self, *, round_counts: bool, rule_counts: bool) -> Round:
        PromotionRule.objects.update(include_simulated=rule_counts)
        shown = judged_round(include_simulated=round_counts)
        judge_all(shown, experts=[make_expert(simulated=True) for _ in range(3)])
        return after_the_beat()

    @pytest.mark.parametrize(("round_counts", "rule_counts"), [(False, False), (True, False), (False, True)])
    def test_they_promote_nothing_unless_round_and_rule_count_them(self, round_counts: bool, rule_counts: bool) -> None:
        done = self.judged(round_counts=round_counts, rule_counts=rule_counts)
        assert done.state == State.JUDGING
        assert "Not enough judgements against base that count: n = 0" in done.message

    def test_a_demonstration_may_count_them(self) -> None:
        assert self.judged(round_counts=True, rule_counts=True).state == State.PROMOTED


def test_a_round_that_beats_the_one_before_but_loses_to_the_base_is_left_to_an_admin() -> None:
    base = make_policy("base")
    shown = judged_round(base=make_policy("before", parent=base, current=True))
    for prompt in Prompt.objects.all():
        write_for(prompt, base, healthy, random.Random(prompt.pk))
    open_evaluation_comparisons(policy=shown.result, baseline=base)
    judge_all(shown, loses_to=base)
    assert [reason.split(":")[0] for reason in reasons_against(shown)] == ["It loses against base"]
    assert after_the_beat().state == State.JUDGING


def test_the_page_is_told_the_same_reasons_before_the_beat() -> None:
    shown = judged_round(measured=False)
    judge_all(shown)
    allowed, reasons = may_promote_itself(shown)
    assert not allowed
    assert all("no prompts were held out" in reason for reason in reasons)
    promote_if_due()
    assert " ".join(reasons) in Round.objects.get().message


def test_every_task_of_the_beat_exists() -> None:
    app.loader.import_default_modules()
    assert {entry["task"] for entry in settings.CELERY_BEAT_SCHEDULE.values()} <= set(app.tasks)


@pytest.mark.django_db(transaction=True)
def test_two_beats_at_once_promote_once() -> None:
    judge_all(judged_round())
    promoted = []

    def beat() -> None:
        promoted.append(promote_if_due())
        connection.close()

    threads = [threading.Thread(target=beat) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [bool(found) for found in promoted].count(True) == 1
    assert Round.objects.get().message.count("Promoted by the rule") == 1
