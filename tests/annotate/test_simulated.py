"""Simulated experts: what they like, that they are unsure, and that nobody takes them for people."""

import pytest
from django.contrib.auth import get_user_model
from django.test import Client

from annotate.comparisons import open_preference_comparisons
from annotate.models import Assignment, Audience, Comparison, Expert, Judgement, Place, Rank
from annotate.queue import next_assignment
from annotate.simulated import TASTES, judge, ranks, simulate, simulated_expert
from generation.measures import measure_story
from generation.models import Prompt
from tests.factories import make_comparison, make_policy, make_prompt, make_story

PLOT = {
    "en": [
        "Once upon a time there was a little fox named Dot.",
        "Dot lived near a blue lake with Grandma.",
        "One day Dot went out to pick flowers.",
        "But an old man could not carry his heavy bag.",
        "So Dot took one side of the bag and helped.",
        "In the end the old man smiled and sang.",
    ],
    "zh": [
        "从前，有个叫豆豆的小狐狸。",
        "豆豆和奶奶住在小山脚下。",
        "有一天，豆豆出门去采花。",
        "可是，一位老爷爷提不动重重的袋子。",
        "于是，豆豆帮忙提起袋子的一边。",
        "最后，老爷爷笑着讲了一个好玩的故事。",
    ],
}
MESSAGE = {"en": "Dot learned that being kind makes two people happy.", "zh": "豆豆学会了：帮助别人自己也快乐。"}
HARD = {
    "en": "Nevertheless, the phenomenon demonstrated remarkable complexity.",
    "zh": "豆豆陷入了难以名状的惆怅与迷惘之中，萦绕于深邃氛围。",
}
DECAY = {"en": "Dot sat sat sat sat. " * 8, "zh": "豆豆坐坐坐坐坐。" * 8}


def good(language: str) -> str:
    return " ".join([*PLOT[language], MESSAGE[language]])


def worse(fault: str, language: str) -> str:
    """The good story with one fault."""
    plot, message = PLOT[language], MESSAGE[language]
    return {
        "no message": " ".join(plot),
        "hard words": " ".join([*plot[:3], HARD[language], *plot[3:], message]),
        "no ending": " ".join([*plot[:5], message]),
        "decay": DECAY[language],
    }[fault]


def put_before_experts(*texts: str, language: str = "en") -> Comparison:
    policy, prompt = make_policy(), make_prompt(language=language)
    for index, text in enumerate(texts):
        make_story(policy, prompt, index, text)
    return make_comparison(0, policy=policy, prompt=prompt)


@pytest.mark.parametrize("audience", Audience.values)
@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("fault", ["no message", "hard words", "no ending", "decay"])
def test_a_simple_whole_story_with_a_message_is_liked_better(audience: str, language: str, fault: str) -> None:
    taste = TASTES[Audience(audience)]
    better, poorer = (measure_story(text, language) for text in (good(language), worse(fault, language)))
    assert taste.score(better) > taste.score(poorer) + taste.noise / 2


@pytest.mark.parametrize("language", ["en", "zh"])
def test_decay_is_liked_less_than_a_story_with_every_other_fault(language: str) -> None:
    faulty = measure_story(worse("hard words", language).replace(MESSAGE[language], ""), language)
    decayed = measure_story(DECAY[language], language)
    assert all(taste.score(faulty) > taste.score(decayed) for taste in TASTES.values())


@pytest.mark.django_db
@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_good_story_wins_nearly_always_against_decay(language: str) -> None:
    for number in range(10):
        put_before_experts(f"{good(language)} {number}", f"{DECAY[language]} {number}", language=language)
    assert simulate(seed=3) == 30
    assert Rank.objects.filter(rank=1, story__text__startswith=good(language)).count() >= 29


@pytest.mark.django_db
def test_experts_disagree_sometimes_but_mostly_agree() -> None:
    for number in range(30):
        put_before_experts(f"{good('en')} {number}.", f"{worse('hard words', 'en')} {number}.")
    simulate(seed=1)
    liked = Rank.objects.filter(rank=1, judgement__verdict="ranked", story__text__startswith=good("en")).count()
    ranked = Judgement.objects.filter(verdict="ranked").count()
    assert 0.6 * ranked < liked < ranked


@pytest.mark.django_db
def test_stories_hardly_different_are_sometimes_called_equally_good() -> None:
    for number in range(20):
        put_before_experts(f"{good('en')} One{'!' * number}.", f"{good('en')} Two{'!' * number}.")
    simulate(seed=1)
    assert 0 < Judgement.objects.filter(verdict="tie").count() < 30


@pytest.mark.parametrize(
    ("audience", "scores", "expected"),
    [
        ("educator", [0.1, 0.9, 0.5, 0.3], {1: 4, 2: 1, 3: 2, 4: 3}),
        ("parent", [0.1, 0.9, 0.5, 0.3], {1: 3, 2: 1, 3: 2, 4: 2}),
        ("parent", [0.1, 0.9], {1: 2, 2: 1}),
        ("writer", [0.1, 0.9, 0.5], {1: 3, 2: 1, 3: 2}),
    ],
)
def test_a_parent_names_best_and_worst_and_the_others_the_full_order(
    audience: str, scores: list[float], expected: dict[int, int]
) -> None:
    assert ranks(scores, TASTES[Audience(audience)]) == expected


def answers(prompts: list[Prompt], seed: int) -> list[tuple]:
    """What simulate(seed=seed) says of four stories of each prompt, the same at each call but for their ids."""
    policy = make_policy()
    for prompt in prompts:
        for index in range(4):
            make_story(policy, prompt, index, f"Fox {index} of {prompt.text}")
    open_preference_comparisons(policy=policy)
    simulate(seed=seed)
    found = Rank.objects.filter(story__policy=policy).order_by("story__text", "judgement__assignment__expert")
    return list(found.values_list("story__text", "judgement__assignment__expert", "rank", "judgement__verdict"))


@pytest.mark.django_db
def test_the_same_seed_on_the_same_data_gives_the_same_answers() -> None:
    prompts = [make_prompt() for _ in range(4)]
    first = answers(prompts, seed=5)
    assert len(first) == 48
    assert answers(prompts, seed=5) == first
    assert answers(prompts, seed=6) != first


@pytest.mark.django_db
def test_simulated_experts_are_marked() -> None:
    make_comparison()
    simulate()
    experts = {(e.audience, e.simulated) for e in Expert.objects.all()}
    assert experts == {("educator", True), ("parent", True), ("writer", True)}
    assert not Judgement.objects.all().by_people().exists()


@pytest.mark.django_db
def test_their_reasons_say_that_they_are_simulated() -> None:
    put_before_experts(good("en"), DECAY["en"])
    put_before_experts(good("zh"), DECAY["zh"], language="zh")
    simulate()
    reasons = Judgement.objects.filter(verdict="ranked").values_list("reason", flat=True)
    assert {reason[:4] for reason in reasons} == {"[sim", "［模拟］"}


@pytest.mark.django_db
@pytest.mark.parametrize("password", ["", "simulated-parent", "None"])
def test_their_accounts_cannot_log_in(client: Client, password: str) -> None:
    user = simulated_expert("parent").user
    assert not user.has_usable_password()
    assert not client.login(username=user.get_username(), password=password)


@pytest.mark.django_db
def test_a_simulated_expert_is_made_once() -> None:
    assert simulated_expert("writer") == simulated_expert("writer")
    assert get_user_model().objects.count() == 1


@pytest.mark.django_db
@pytest.mark.parametrize(("limit", "done"), [(0, 0), (1, 1), (4, 4), (100, 6)])
def test_no_more_judgements_than_the_limit(limit: int, done: int) -> None:
    make_comparison()
    make_comparison()
    assert simulate(limit=limit) == Judgement.objects.count() == done


@pytest.mark.django_db
def test_they_take_turns() -> None:
    make_comparison()
    simulate(limit=3)
    judged = Judgement.objects.values_list("assignment__expert__audience", flat=True)
    assert sorted(judged) == sorted(Audience.values)


@pytest.mark.django_db
def test_they_stop_when_nothing_is_open() -> None:
    make_comparison()
    assert simulate() == 3
    assert simulate() == 0
    assert not Place.objects.all().free().exists()


@pytest.mark.django_db
def test_only_the_audiences_asked_for_judge() -> None:
    make_comparison()
    assert simulate(audiences=["parent"]) == 1
    assert Expert.objects.get().audience == "parent"


@pytest.mark.django_db
@pytest.mark.parametrize("turned", [False, True])
def test_ranks_follow_the_story_wherever_it_is_shown(turned: bool) -> None:
    put_before_experts(good("en"), DECAY["en"], worse("no ending", "en"))
    drawn = next_assignment(expert=simulated_expert("writer"))
    Assignment.objects.filter(pk=drawn.pk).update(shown=sorted(drawn.shown, reverse=turned))
    judge(Assignment.objects.get(pk=drawn.pk), seed=2)
    assert Rank.objects.get(rank=3).story.text == DECAY["en"]
