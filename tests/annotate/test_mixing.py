"""New-against-old work among ordinary work, in the share that the admins set."""

from itertools import count

import pytest
from django.test import Client
from django.urls import reverse
from scipy.stats import binom

from annotate.comparisons import open_evaluation_comparisons, open_preference_comparisons
from annotate.forms_admin import CampaignForm
from annotate.judgements import record_judgement
from annotate.models import Campaign, Expert, Place, Purpose
from annotate.queue import next_assignment, skip_assignment
from generation.models import Prompt, Split, Story
from tests.factories import make_comparison, make_evaluation, make_expert, make_policy, set_campaign

pytestmark = pytest.mark.django_db
FORM = {"criteria": ["structure"], "gold_every": "20", "repeat_every": "15"}
numbers = count(1)


@pytest.fixture(autouse=True)
def no_silent_checks() -> None:
    set_campaign(gold_every=0, repeat_every=0)


def fill_the_queue(*, evaluations: int, ordinary: int) -> None:
    new, old = make_policy(), make_policy()
    _write(evaluations, Split.EVALUATION, [(new, 0), (old, 0)])
    _write(ordinary, Split.TRAIN, [(old, 0), (old, 1)])
    open_evaluation_comparisons(policy=new, baseline=old)
    open_preference_comparisons(policy=old)


def _write(prompts: int, split: str, by: list[tuple]) -> None:
    about = {"language": "en", "theme": "courage", "story_type": "fable", "age_band": "5-6", "split": split}
    made = Prompt.objects.bulk_create(Prompt(text=f"Fox {next(numbers)}", **about) for _ in range(prompts))
    sampled = {"token_ids": [1], "finish_reason": "stop", "temperature": 1, "top_p": 1, "min_p": 0, "seed": 1}
    Story.objects.bulk_create(
        Story(
            prompt=p, policy=policy, sample_index=index, text=f"Story {next(numbers)}.", rendered_prompt="", **sampled
        )
        for p in made
        for policy, index in by
    )


def handed_out(expert: Expert, n: int) -> list[str]:
    """The purposes of the expert's next `n` comparisons, each answered."""
    found = []
    for _ in range(n):
        assignment = next_assignment(expert=expert)
        found.append(assignment.comparison.purpose)
        record_judgement(assignment=assignment, verdict="tie")
    return found


@pytest.mark.parametrize("share", [30, 75])
def test_of_two_hundred_comparisons_the_share_that_was_set_is_evaluation(share: int) -> None:
    set_campaign(evaluation_share=share)
    fill_the_queue(evaluations=2 * share + 30, ordinary=2 * (100 - share) + 30)
    evaluations = handed_out(make_expert(), 200).count(Purpose.EVALUATION)
    assert binom.ppf(0.001, 200, share / 100) <= evaluations <= binom.ppf(0.999, 200, share / 100)


def test_which_comes_next_does_not_follow_a_pattern() -> None:
    set_campaign(evaluation_share=50)
    fill_the_queue(evaluations=40, ordinary=40)
    assert len({tuple(handed_out(make_expert(), 6)) for _ in range(5)}) > 2


@pytest.mark.parametrize(("share", "first"), [(0, Purpose.PREFERENCE), (100, Purpose.EVALUATION)])
def test_none_and_all_of_the_work_put_one_before_the_other(share: int, first: str) -> None:
    set_campaign(evaluation_share=share)
    fill_the_queue(evaluations=4, ordinary=4)
    found = handed_out(make_expert(), 8)
    assert set(found[:4]) == {first}
    assert first not in found[4:]


@pytest.mark.parametrize("share", [0, 30, 100])
def test_where_there_is_only_one_kind_it_comes(share: int) -> None:
    set_campaign(evaluation_share=share)
    make_evaluation(make_policy(), make_policy())
    make_comparison()
    assert sorted(handed_out(make_expert(), 2)) == [Purpose.EVALUATION, Purpose.PREFERENCE]


def test_a_skip_does_not_change_which_kind_is_due() -> None:
    set_campaign(evaluation_share=50)
    fill_the_queue(evaluations=5, ordinary=5)
    expert = make_expert()
    found = []
    for _ in range(4):
        assignment = next_assignment(expert=expert)
        found.append(assignment.comparison.purpose)
        skip_assignment(assignment=assignment)
    assert len(set(found)) == 1


def test_places_say_which_kind_they_are() -> None:
    make_evaluation(make_policy(), make_policy())
    make_comparison()
    places = Place.objects.values_list("comparison__purpose", "evaluation").distinct()
    assert set(places) == {(Purpose.EVALUATION, True), (Purpose.PREFERENCE, False)}


class TestSetting:
    @pytest.fixture
    def admin(self, client: Client, django_user_model) -> Client:
        client.force_login(django_user_model.objects.create_user("boss", is_staff=True))
        return client

    @pytest.mark.parametrize("share", [0, 45, 100])
    def test_the_page_saves_it(self, admin: Client, share: int) -> None:
        admin.post(reverse("save_campaign"), {**FORM, "evaluation_share": share})
        assert Campaign.stored().evaluation_share == share
        assert f'name="evaluation_share" value="{share}"' in admin.get(reverse("judging")).content.decode()

    @pytest.mark.parametrize(
        ("share", "message"),
        [
            ("101", "less than or equal to 100"),
            ("-1", "greater than or equal to 0"),
            ("", "required"),
            ("a third", "whole number"),
        ],
    )
    def test_what_is_no_percentage_is_refused_with_a_message(self, admin: Client, share: str, message: str) -> None:
        response = admin.post(reverse("save_campaign"), {**FORM, "evaluation_share": share})
        assert message in response.content.decode()
        assert Campaign.stored().evaluation_share == 30

    def test_the_form_and_the_database_mean_the_same_share(self) -> None:
        assert Campaign._meta.get_field("evaluation_share").default == 30
        assert CampaignForm(instance=Campaign()).initial["evaluation_share"] == 30
