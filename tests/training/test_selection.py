"""Which pairs a round is trained on."""

from itertools import combinations

import networkx
import pytest

from annotate.models import Comparison, CriterionWinner, Judgement
from annotate.pairs import PreferencePair, preference_judgements, preference_pairs
from generation.models import Policy, Prompt
from tests.factories import judge_by_story, make_comparison, make_expert, make_policy, make_prompt
from training.selection import BadSelection, Selection, agreement_of, distances, pairs

pytestmark = pytest.mark.django_db


@pytest.fixture
def policy() -> Policy:
    return make_policy("base", current=True)


def judged(
    policy: Policy,
    stories: int = 2,
    *,
    prompt: Prompt | None = None,
    audience: str = "educator",
    simulated: bool = False,
) -> Comparison:
    """A comparison, ranked by one expert in the order of its ids."""
    found = make_comparison(stories, policy=policy, prompt=prompt)
    judge(found, audience=audience, simulated=simulated)
    return found


def judge(comparison: Comparison, *, upside_down: bool = False, **expert: object) -> Judgement:
    order = sorted(comparison.stories.all(), key=lambda story: story.pk, reverse=upside_down)
    return judge_by_story(make_expert(**expert), order)


def prompts_of(found: list[PreferencePair]) -> set[int]:
    return {pair.rejected.prompt_id for pair in found}


def test_without_a_wish_it_is_what_people_say_of_the_policy_in_use(policy: Policy) -> None:
    judged(policy, 3)
    judged(policy, simulated=True)
    judged(make_policy("round-1", parent=policy))
    assert pairs(Selection(), policy) == preference_pairs(preference_judgements(policy=policy, include_simulated=False))
    assert len(pairs(Selection(), policy)) == 3
    assert len(pairs(Selection(simulated=True), policy)) == 4


def test_it_keeps_the_languages_themes_and_audiences_that_were_chosen(policy: Policy) -> None:
    chinese = judged(policy, prompt=make_prompt(language="zh"))
    parents = judged(policy, audience="parent")
    other = make_prompt()
    Prompt.objects.filter(pk=other.pk).update(theme="sharing")
    sharing = judged(policy, prompt=other)
    assert prompts_of(pairs(Selection(languages=("zh",)), policy)) == {chinese.prompt_id}
    assert prompts_of(pairs(Selection(audiences=("parent",)), policy)) == {parents.prompt_id}
    assert prompts_of(pairs(Selection(themes=("sharing",)), policy)) == {sharing.prompt_id}


class TestRounds:
    @pytest.fixture
    def line(self, policy: Policy) -> list[Policy]:
        """base, its round-1, and round-2 of that, each with one pair; and a pair of another base model."""
        first = make_policy("round-1", parent=policy)
        found = [policy, first, make_policy("round-2", parent=first)]
        for one in (*found, make_policy("another base")):
            judged(one)
        return found

    def test_all_rounds_are_those_of_the_same_base_model(self, line: list[Policy]) -> None:
        found = pairs(Selection(rounds="all"), line[2])
        assert {pair.rejected.policy.name for pair in found} == {"base", "round-1", "round-2"}
        assert {pair.weight for pair in found} == {1.0}

    def test_in_a_mix_older_pairs_count_less_with_each_round_between(self, line: list[Policy]) -> None:
        found = pairs(Selection(rounds="mix", older_weight=0.5), line[2])
        assert {p.rejected.policy.name: p.weight for p in found} == {"base": 0.25, "round-1": 0.5, "round-2": 1.0}

    def test_a_sister_is_as_far_as_the_way_over_their_parent(self, line: list[Policy]) -> None:
        sister = make_policy("round-3", parent=line[1])
        assert distances(line[2]) == {line[2].pk: 0, line[1].pk: 1, line[0].pk: 2, sister.pk: 2}


def test_the_floor_leaves_out_pairs_on_which_too_few_agree(policy: Policy) -> None:
    clear = judged(policy)
    judge(clear)
    judge(clear)  # its places are filled: the next expert gets the other one
    disputed = judged(policy)
    judge(disputed)
    judge(disputed, upside_down=True)
    found = pairs(Selection(), policy)
    assert sorted(agreement_of(pair) for pair in found) == pytest.approx([2 / 3, 1])
    assert prompts_of(pairs(Selection(min_agreement=0.7), policy)) == {clear.prompt_id}
    assert len(pairs(Selection(min_agreement=2 / 3), policy)) == 2


class TestWhich:
    @pytest.mark.parametrize("k", [2, 3, 5])
    def test_an_order_of_k_has_k_minus_1_adjacent_pairs_and_one_of_best_and_worst(self, policy: Policy, k: int) -> None:
        ids = sorted(judged(policy, k).stories.values_list("pk", flat=True))
        found = {w: as_ids(pairs(Selection(which=w), policy)) for w in ("all", "adjacent", "extremes")}
        assert found["all"] == set(combinations(ids, 2))
        assert found["adjacent"] == set(zip(ids, ids[1:], strict=False))
        assert found["extremes"] == {(ids[0], ids[-1])}

    def test_adjacent_pairs_of_a_common_order_are_its_transitive_reduction(self, policy: Policy) -> None:
        """Two experts who agree on some stories only; networkx is the second opinion."""
        comparison = judged(policy, 5)
        a, b, c, d, e = sorted(comparison.stories.all(), key=lambda story: story.pk)
        judge_by_story(make_expert(), [b, a, c, e, d])
        everything = as_ids(pairs(Selection(), policy))
        assert len(everything) == 8
        reduced = networkx.transitive_reduction(networkx.DiGraph(everything))
        assert as_ids(pairs(Selection(which="adjacent"), policy)) == set(reduced.edges)
        ends = {(one.pk, other.pk) for one in (a, b) for other in (d, e)}
        assert as_ids(pairs(Selection(which="extremes"), policy)) == ends

    def test_the_floor_makes_no_pair_adjacent_that_was_not(self, policy: Policy) -> None:
        a, b, c = sorted(judged(policy, 3).stories.all(), key=lambda story: story.pk)
        judge_by_story(make_expert(), [a, b, c])
        judge_by_story(make_expert(), [b, a, c])
        assert as_ids(pairs(Selection(which="adjacent", min_agreement=0.9), policy)) == {(b.pk, c.pk)}


def as_ids(found: list[PreferencePair]) -> set[tuple[int, int]]:
    return {(pair.chosen.pk, pair.rejected.pk) for pair in found}


def test_pairs_by_a_criterion_are_those_of_its_winners(policy: Policy) -> None:
    comparison = judged(policy, 3)
    worst = comparison.stories.order_by("pk").last()
    CriterionWinner.objects.create(judgement=Judgement.objects.get(), criterion="creativity", story=worst)
    found = pairs(Selection(criteria=("creativity",)), policy)
    assert [(pair.chosen, pair.criterion) for pair in found] == [(worst, "creativity")] * 2
    assert len(pairs(Selection(criteria=("overall", "creativity")), policy)) == 5


class TestAsJson:
    def test_it_comes_back_as_it_was(self) -> None:
        found = Selection(rounds="mix", older_weight=0.3, languages=("zh",), themes=("courage",), simulated=True)
        assert Selection.of(found.as_json(), simulated=True) == found

    def test_a_round_from_before_there_were_selections_has_all_pairs_of_its_policy(self) -> None:
        assert Selection.of({}) == Selection()

    @pytest.mark.parametrize(
        ("part", "value"),
        [
            ("rounds", "yesterday"),
            ("which", ["all"]),
            ("languages", "en"),
            ("languages", ["fr"]),
            ("audiences", ["child"]),
            ("criteria", []),
            ("criteria", ["length"]),
            ("themes", [3]),
            ("min_agreement", 0.4),
            ("min_agreement", float("nan")),
            ("older_weight", True),
            ("older_weight", 0),
            ("colour", "red"),
        ],
    )
    def test_what_cannot_be_meant_is_refused_by_name(self, part: str, value: object) -> None:
        with pytest.raises(BadSelection) as error:
            Selection.of({part: value})
        assert error.value.part == part

    def test_a_theme_that_no_training_prompt_has_is_refused_with_those_there_are(self) -> None:
        make_prompt()
        with pytest.raises(BadSelection, match="There are: courage"):
            Selection(themes=("corage",)).check_themes()
