"""What goes too far raises an alarm, what could not be measured says so, and a healthy round raises none."""

import random

import pytest
from django.core.management import CommandError, call_command

from generation.measures import measure_story
from generation.models import Language
from generation.summaries import Change
from tests.training.stories import add_metric, decayed, healthy, judged_round
from tests.training.test_models import make_round
from training.alarms import Finding, check_alarms, diversity_loss, findings, length_drift, rise_limit, the_limits
from training.forms import AlarmLimitsForm
from training.models import LIMITS, Alarm, AlarmLimits, Round, Watched

pytestmark = pytest.mark.django_db


def found_of(shown: Round, kind: Watched) -> Finding:
    return next(finding for finding in findings(shown) if finding.kind == kind)


def kinds(shown: Round) -> set[str]:
    return {alarm.kind for alarm in shown.alarms.all()}


def test_a_healthy_round_raises_no_alarm_and_everything_watched_is_measured() -> None:
    shown = judged_round()
    found = check_alarms(checked=shown)
    assert {f.kind: f.crossed for f in found if f.limit is not None and f.crossed is not False} == {}
    assert [f.kind for f in found] == list(Watched)
    assert not Alarm.objects.exists()


def test_text_that_has_decayed_raises_alarms_though_its_structure_is_perfect() -> None:
    read = [measure_story(decayed(random.Random(seed)), Language.ENGLISH) for seed in range(50)]
    assert all(story.has_structure and story.has_message for story in read)
    shown = judged_round(decayed)
    check_alarms(checked=shown)
    assert kinds(shown) >= {Watched.REPETITION, Watched.DIVERSITY, Watched.BROKEN}


def test_each_finding_says_of_how_many_stories_or_prompts_it_is() -> None:
    found = findings(judged_round(prompts=5))
    assert [f.n for f in found] == [40] * 3 + [5] * 6


class TestHeldOut:
    @pytest.mark.parametrize("kind", [Watched.KL_TOKEN, Watched.CHOSEN_FALL])
    def test_without_held_out_prompts_it_is_not_measured_and_never_fine(self, kind: Watched) -> None:
        found = found_of(judged_round(measured=False), kind)
        assert (found.value, found.crossed, found.unmeasured) == (None, None, True)
        assert found.verdict == "not measured: no prompts were held out of training"

    def test_what_an_earlier_step_showed_says_nothing_of_the_result(self) -> None:
        shown = judged_round(measured=False)
        add_metric(shown, step=30)
        add_metric(shown, step=60, held_out=False)
        assert found_of(shown, Watched.KL_TOKEN).unmeasured

    def test_the_same_distance_a_token_is_the_same_for_stories_twice_as_long(self) -> None:
        found = []
        for number, (kl, tokens) in enumerate(((10.0, 4000), (20.0, 8000)), start=1):
            shown = make_round(number=number, state="failed", message="no disk")
            add_metric(shown, kl=kl, stories=40, tokens=tokens)
            found.append(found_of(shown, Watched.KL_TOKEN))
        assert [f.value for f in found] == [pytest.approx(0.1)] * 2

    def test_a_policy_that_is_trained_too_hard_is_far_from_its_reference(self) -> None:
        """What the demo's writer showed at twelve times its learning rate."""
        shown = judged_round(measured=False)
        add_metric(shown, kl=43.2, logps_change=-0.34)
        check_alarms(checked=shown)
        assert kinds(shown) == {Watched.KL_TOKEN, Watched.CHOSEN_FALL}

    def test_what_is_no_number_is_beyond_every_limit(self) -> None:
        shown = judged_round(measured=False)
        add_metric(shown, kl=float("nan"), logps_change=float("nan"))
        check_alarms(checked=shown)
        assert kinds(shown) == {Watched.KL_TOKEN, Watched.CHOSEN_FALL}


class TestStories:
    @pytest.mark.parametrize("write", [lambda rng: f"{healthy(rng)} {healthy(rng)}", lambda rng: healthy(rng)[:200]])
    def test_longer_and_shorter_stories_are_both_a_drift(self, write) -> None:
        found = found_of(judged_round(write), Watched.LENGTH)
        assert found.crossed
        assert found.baseline_text.endswith("words")

    def test_another_script_and_endings_that_are_missing_are_noticed(self) -> None:
        shown = judged_round(lambda rng: f"{healthy(rng)} 从前有一只狐狸住在森林里很快乐 and")
        check_alarms(checked=shown)
        assert kinds(shown) >= {Watched.LANGUAGE, Watched.CUT_OFF}

    def test_stories_of_other_prompts_are_not_compared(self) -> None:
        shown = judged_round(prompts=2)
        shown.policy.stories.all().delete()
        assert found_of(shown, Watched.REPETITION).verdict == (
            "not measured: no prompt has finished stories of both policies"
        )

    def test_a_round_without_a_policy_is_not_measured(self) -> None:
        assert all(finding.value is None for finding in findings(make_round()))

    @pytest.mark.parametrize(
        ("points", "percent", "baseline", "limit"),
        [(2, 25, 0.005, 0.02), (2, 25, 0.4, 0.1), (2, None, 0.4, 0.02), (None, 25, 0.4, 0.1), (None, None, 0.4, None)],
    )
    def test_a_rise_must_be_beyond_both_limits_where_both_are_set(self, points, percent, baseline, limit) -> None:
        assert rise_limit(points, percent, baseline) == (limit and pytest.approx(limit))

    def test_without_anything_to_compare_with_a_share_of_it_is_unknown(self) -> None:
        nothing = Change(mean=0.1, low=0.0, high=0.2, before=0.0, after=0.1, prompts=3)
        assert (length_drift(nothing), diversity_loss(nothing)) == (None, None)


class TestCheck:
    def test_checking_again_changes_nothing(self) -> None:
        shown = judged_round(decayed, prompts=3)
        check_alarms(checked=shown)
        before = list(Alarm.objects.values())
        check_alarms(checked=shown)
        assert list(Alarm.objects.values()) == before

    def test_a_limit_that_was_taken_away_takes_its_alarm_with_it(self) -> None:
        shown = judged_round(decayed, prompts=3)
        check_alarms(checked=shown)
        AlarmLimits.objects.create(diversity_percent=None)
        check_alarms(checked=shown)
        assert Watched.DIVERSITY not in kinds(shown)
        assert found_of(shown, Watched.DIVERSITY).verdict == "not watched"

    def test_the_command_checks_rounds_anew_and_prints_what_it_found(self, capsys) -> None:
        shown = judged_round(decayed, prompts=3)
        call_command("check_alarms")
        printed = capsys.readouterr().out
        assert "round 1: rise of repetition: " in printed
        assert "): alarm\n" in printed
        assert Watched.REPETITION in kinds(shown)

    def test_the_command_refuses_a_round_that_has_made_nothing(self) -> None:
        make_round(number=3)
        with pytest.raises(CommandError, match="no round 3 with a policy"):
            call_command("check_alarms", round=3)


class TestLimitsForm:
    values = {name: str(value) for name, value in AlarmLimitsForm(instance=AlarmLimits()).initial.items() if value}

    def test_an_empty_limit_is_stored_as_not_watched(self) -> None:
        form = AlarmLimitsForm({**self.values, "length_percent": ""}, instance=the_limits())
        assert form.is_valid(), form.errors
        form.save()
        assert (the_limits().length_percent, the_limits().diversity_percent) == (None, 25)

    @pytest.mark.parametrize("wrong", ["0", "-1", "nan", "1e9"])
    def test_a_limit_that_means_nothing_is_refused(self, wrong: str) -> None:
        for name in LIMITS:
            assert name in AlarmLimitsForm({**self.values, name: wrong}, instance=the_limits()).errors

    def test_reading_the_limits_writes_nothing(self) -> None:
        assert the_limits().kl_token == 0.1
        assert not AlarmLimits.objects.exists()


def test_reading_findings_asks_the_database_as_often_for_many_stories_as_for_few(django_assert_max_num_queries) -> None:
    shown = judged_round(prompts=6)
    findings(shown)  # the figures are computed once
    with django_assert_max_num_queries(35):
        findings(shown)
