"""What comes with an answer: winners by criterion, chips, marked passages, time; and the six verdicts."""

from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from annotate.chips import chips_against, chips_for
from annotate.forms import JudgementForm
from annotate.judgements import BadAnswer, Details, Mark, record_judgement
from annotate.models import Assignment, Audience, Criterion, Expert, Judgement, Verdict
from annotate.pairs import PreferencePair, preference_judgements, preference_pairs
from annotate.queue import next_assignment
from generation.models import Story
from tests.annotate.answering import answer, story
from tests.annotate.browsing import html, open_tab, page_of, submit
from tests.factories import make_comparison, make_expert, make_policy, make_prompt, make_story, set_campaign

pytestmark = pytest.mark.django_db
ORDER = {1: 1, 2: 2, 3: 3}
TEXT = "从前，有一只🦊。\nIt ran 跑."


@pytest.fixture
def assignment(expert: Expert) -> Assignment:
    make_comparison(3)
    return next_assignment(expert=expert)


def give(assignment: Assignment, verdict: str = "ranked", **details: object) -> Judgement:
    ranks = ORDER if verdict == "ranked" else None
    found = Details(**details)
    return record_judgement(assignment=assignment, verdict=verdict, ranks=ranks, details=found).judgement


def by_criterion() -> list[PreferencePair]:
    pairs = preference_pairs(preference_judgements(), by_criterion=True)
    return [pair for pair in pairs if pair.criterion != "overall"]


class TestVerdicts:
    @pytest.mark.parametrize("verdict", Verdict.values)
    def test_each_is_kept_as_itself(self, assignment: Assignment, verdict: str) -> None:
        give(assignment, verdict, unsafe=frozenset({1}) if verdict == "unsafe" else frozenset())
        assert Judgement.objects.get().verdict == verdict

    @pytest.mark.parametrize("verdict", Verdict.values)
    def test_each_can_be_sent_from_the_page(self, judging: Client, assignment: Assignment, verdict: str) -> None:
        assert f'name="verdict" value="{verdict}"' in html(judging.get(page_of(assignment)))
        submit(judging, assignment, verdict=verdict, best=1, unsafe=2, **open_tab(judging, assignment))
        assert Judgement.objects.get().verdict == verdict

    @pytest.mark.parametrize("verdict", ["tie", "all_good", "all_bad"])
    def test_equals_rank_all_stories_the_same(self, assignment: Assignment, verdict: str) -> None:
        assert [rank.rank for rank in give(assignment, verdict).ranks.all()] == [1, 1, 1]

    @pytest.mark.parametrize("verdict", ["cannot_rank", "unsafe"])
    def test_the_last_two_rank_nothing(self, assignment: Assignment, verdict: str) -> None:
        assert not give(assignment, verdict, unsafe=frozenset({1})).ranks.exists()

    @pytest.mark.parametrize("verdict", ["tie", "all_good", "all_bad", "cannot_rank", "unsafe"])
    def test_none_but_an_order_makes_pairs(self, assignment: Assignment, verdict: str) -> None:
        give(assignment, verdict, unsafe=frozenset({1}))
        assert preference_pairs(preference_judgements()) == []

    def test_unsafe_without_a_story_is_sent_back(self, judging: Client, assignment: Assignment) -> None:
        response = submit(judging, assignment, verdict="unsafe", **open_tab(judging, assignment))
        assert (response.status_code, Judgement.objects.count()) == (422, 0)
        assert "Tick which story is unsafe" in html(response)

    def test_a_tick_without_the_verdict_reports_nothing(self, judging: Client, assignment: Assignment) -> None:
        submit(judging, assignment, best=1, unsafe=2, **open_tab(judging, assignment))
        assert Judgement.objects.get().verdict == "ranked"
        assert not Story.objects.exclude(withdrawn_at=None).exists()

    def test_a_story_that_has_left_needs_no_rank(self, assignment: Assignment) -> None:
        Story.objects.filter(pk=assignment.shown[1]).update(withdrawn_at=timezone.now())
        kept = record_judgement(assignment=assignment, verdict="ranked", ranks={1: 2, 3: 1}).judgement
        assert [(rank.shown_position, rank.rank) for rank in kept.ranks.all()] == [(1, 2), (3, 1)]


class TestCriteria:
    def test_the_winner_by_each_criterion_is_kept(self, assignment: Assignment) -> None:
        kept = give(assignment, criteria={"structure": 2, "language_fit": 3})
        found = {won.criterion: won.story_id for won in kept.criterion_winners.all()}
        assert found == {"structure": assignment.shown[1], "language_fit": assignment.shown[2]}

    def test_no_difference_is_an_answer_of_its_own(self, assignment: Assignment) -> None:
        kept = give(assignment, criteria={"structure": None})
        assert [(won.criterion, won.story) for won in kept.criterion_winners.all()] == [("structure", None)]

    def test_a_winner_that_is_not_shown_is_refused(self, assignment: Assignment) -> None:
        with pytest.raises(BadAnswer, match="out of date"):
            give(assignment, criteria={"structure": 4})

    def test_the_page_asks_the_campaigns_criteria_and_no_others(self, judging: Client, assignment: Assignment) -> None:
        set_campaign(criteria=["creativity"])
        page = html(judging.get(page_of(assignment)))
        assert [c for c in Criterion.values if f'name="criterion_{c}"' in page] == ["creativity"]

    def test_what_the_page_sends_is_kept(self, judging: Client, assignment: Assignment) -> None:
        sent = {"criterion_structure": "2", "criterion_language_fit": "0", "criterion_educational_value": ""}
        submit(judging, assignment, best=1, **sent, **open_tab(judging, assignment))
        found = {won.criterion: won.story_id for won in Judgement.objects.get().criterion_winners.all()}
        assert found == {"structure": assignment.shown[1], "language_fit": None}

    def test_criteria_are_optional(self, judging: Client, assignment: Assignment) -> None:
        assert submit(judging, assignment, best=1, **open_tab(judging, assignment)).status_code == 302

    def test_a_campaign_can_require_them(self, judging: Client, assignment: Assignment) -> None:
        set_campaign(criteria=["structure", "creativity"], criteria_required=True)
        response = submit(judging, assignment, best=1, criterion_structure=1, **open_tab(judging, assignment))
        assert (response.status_code, Judgement.objects.count()) == (422, 0)
        assert "missing: Creativity." in html(response)

    def test_no_difference_answers_a_required_criterion(self) -> None:
        data = {"verdict": "ranked", "best": "1", "criterion_structure": "0"}
        assert JudgementForm(data, count=3, criteria=["structure"], criteria_required=True).is_valid()

    @pytest.mark.parametrize("verdict", ["tie", "cannot_rank"])
    def test_they_are_required_of_an_order_only(self, verdict: str) -> None:
        form = JudgementForm({"verdict": verdict}, count=3, criteria=["structure"], criteria_required=True)
        assert form.is_valid()

    def test_the_winner_is_preferred_to_all_that_stood_beside_it(self, assignment: Assignment) -> None:
        give(assignment, "tie", criteria={"structure": 2})
        first, second, third = assignment.shown
        found = {(p.chosen.pk, p.rejected.pk, p.criterion) for p in by_criterion()}
        assert found == {(second, first, "structure"), (second, third, "structure")}

    def test_a_criterion_can_go_another_way_than_the_whole(self, expert: Expert) -> None:
        comparison = make_comparison(2)
        judgement = answer(expert, comparison, "A > B", shown="AB", criteria={"creativity": 2})
        found = {(p.chosen.pk, p.criterion) for p in preference_pairs(preference_judgements(), by_criterion=True)}
        assert found == {(story(comparison, "A").pk, "overall"), (story(comparison, "B").pk, "creativity")}
        assert judgement.verdict == "ranked"

    def test_the_majority_decides_by_each_criterion(self) -> None:
        comparison = make_comparison(2)
        for winner in (1, 2, 2):
            answer(make_expert(), comparison, "tie", shown="AB", criteria={"structure": winner})
        (pair,) = by_criterion()
        assert (pair.chosen, pair.judgements_for, pair.judgements_against) == (story(comparison, "B"), 2, 1)

    def test_no_difference_makes_no_pair(self, assignment: Assignment) -> None:
        give(assignment, criteria={"structure": None})
        assert by_criterion() == []

    def test_a_withdrawn_story_wins_and_loses_by_no_criterion(self, expert: Expert) -> None:
        comparison = make_comparison(3)
        answer(expert, comparison, "tie", shown="ABC", criteria={"structure": 1, "creativity": 2})
        Story.objects.filter(pk=story(comparison, "A").pk).update(withdrawn_at=timezone.now())
        b, c = story(comparison, "B"), story(comparison, "C")
        assert [(p.chosen, p.rejected, p.criterion) for p in by_criterion()] == [(b, c, "creativity")]

    @pytest.mark.parametrize("verdict", ["cannot_rank", "unsafe"])
    def test_who_ranks_nothing_prefers_nothing_by_a_criterion_either(
        self, assignment: Assignment, verdict: str
    ) -> None:
        give(assignment, verdict, criteria={"structure": 2}, unsafe=frozenset({1}))
        assert by_criterion() == []

    def test_they_are_exported_only_if_asked_for(self, assignment: Assignment) -> None:
        give(assignment, "tie", criteria={"structure": 2})
        assert preference_pairs(preference_judgements()) == []


class TestChips:
    def test_reasons_for_and_against_are_kept_apart(self, assignment: Assignment) -> None:
        kept = give(assignment, reasons_for=["right_words", "warm"], reasons_against=["no_ending"])
        kept.refresh_from_db()
        assert (kept.reasons_for, kept.reasons_against) == (["right_words", "warm"], ["no_ending"])

    @pytest.mark.parametrize(
        "chips", [{"reasons_for": ["no_ending"]}, {"reasons_against": ["warm"]}, {"reasons_for": ["odd"]}], ids=str
    )
    def test_unknown_ones_are_refused(self, assignment: Assignment, chips: dict[str, list[str]]) -> None:
        with pytest.raises(BadAnswer, match="out of date"):
            give(assignment, **chips)

    def test_unknown_ones_are_sent_back(self, judging: Client, assignment: Assignment) -> None:
        response = submit(judging, assignment, best=1, reasons_for="odd", **open_tab(judging, assignment))
        assert (response.status_code, Judgement.objects.count()) == (422, 0)

    def test_each_audience_has_some_of_its_own(self) -> None:
        for chips in (chips_for, chips_against):
            sets = [set(chips(audience)) for audience in Audience.values]
            assert all(own - set.union(*(other for other in sets if other is not own)) for own in sets)

    def test_the_page_offers_those_of_the_experts_audience(self, client: Client) -> None:
        parent = make_expert("parent")
        make_comparison()
        client.force_login(parent.user)
        page = html(client.get(page_of(next_assignment(expert=parent))))
        assert 'name="reasons_for" value="to_read_aloud"' in page
        assert 'value="own_voice"' not in page

    def test_another_audiences_are_kept_too(self, judging: Client, assignment: Assignment) -> None:
        submit(judging, assignment, best=1, reasons_for="own_voice", **open_tab(judging, assignment))
        assert Judgement.objects.get().reasons_for == ["own_voice"]


class TestPassages:
    @pytest.fixture
    def assignment(self, expert: Expert) -> Assignment:
        policy, prompt = make_policy(), make_prompt(language="zh")
        for index, end in enumerate(("", "!")):
            make_story(policy, prompt, index, TEXT + end)
        comparison = make_comparison(0, policy=policy, prompt=prompt)
        assignment = next_assignment(expert=expert)
        shown = sorted(comparison.stories.values_list("pk", flat=True))
        Assignment.objects.filter(pk=assignment.pk).update(shown=shown)
        return Assignment.objects.get(pk=assignment.pk)

    def mark(self, assignment: Assignment, start: int, end: int, position: int = 1) -> Judgement:
        return give(assignment, "tie", passages=[Mark(position, start, end, good=True)])

    def test_offsets_count_characters_whatever_their_script(self, assignment: Assignment) -> None:
        start = TEXT.index("🦊")
        (passage,) = self.mark(assignment, start, start + 2).passages.all()
        assert passage.story.text[passage.start : passage.end] == "🦊。"

    def test_what_the_page_sends_is_kept(self, judging: Client, assignment: Assignment) -> None:
        sent = "[[1, 0, 3, true], [2, 11, 17, false]]"
        submit(judging, assignment, best=1, passages=sent, **open_tab(judging, assignment))
        found = [(p.story_id, p.start, p.end, p.good) for p in Judgement.objects.get().passages.all()]
        assert found == [(assignment.shown[0], 0, 3, True), (assignment.shown[1], 11, 17, False)]

    def test_a_whole_story_can_be_marked(self, assignment: Assignment) -> None:
        assert self.mark(assignment, 0, len(TEXT)).passages.get().end == len(TEXT)

    @pytest.mark.parametrize(("start", "end"), [(0, len(TEXT) + 1), (3, 3), (4, 2), (-1, 2), (10**12, 10**12 + 1)])
    def test_what_lies_outside_the_text_is_refused(self, assignment: Assignment, start: int, end: int) -> None:
        with pytest.raises(BadAnswer, match="does not fit"):
            self.mark(assignment, start, end)

    def test_a_story_that_is_not_shown_has_none(self, assignment: Assignment) -> None:
        with pytest.raises(BadAnswer, match="out of date"):
            self.mark(assignment, 0, 1, position=3)

    def test_fifty_are_kept_and_one_more_is_refused(self, assignment: Assignment) -> None:
        marks = [Mark(1, 0, 1, good=True)] * 51
        with pytest.raises(BadAnswer, match="50 at most"):
            give(assignment, "tie", passages=marks)
        assert give(assignment, "tie", passages=marks[1:]).passages.count() == 50

    @pytest.mark.parametrize(
        "sent", ["5", '"abcd"', "[1]", "[[1, 0, 3]]", '[["x", 0, 3, true]]', '{"a": 1}', "[", "[[1, 0, 1e999, true]]",
                 "[" * 5000]
    )  # fmt: skip
    def test_what_is_no_list_of_passages_is_sent_back(self, judging: Client, assignment: Assignment, sent: str) -> None:
        response = submit(judging, assignment, best=1, passages=sent, **open_tab(judging, assignment))
        assert (response.status_code, Judgement.objects.count()) == (422, 0)


class TestTime:
    def opened(self, assignment: Assignment, ago: float, minimum: float = 60) -> None:
        when = timezone.now() - timedelta(seconds=ago)
        Assignment.objects.filter(pk=assignment.pk).update(opened_at=when, minimum_seconds=minimum)

    def test_the_minimum_is_what_a_quick_reader_needs(self) -> None:
        policy, english, chinese = make_policy(), make_prompt(), make_prompt(language="zh")
        for prompt, text in ((english, "x" * 200), (chinese, "好" * 150)):
            for index in range(2):
                make_story(policy, prompt, index, text[1:] + str(index))
            make_comparison(0, policy=policy, prompt=prompt)
        expert = make_expert()
        found = {}
        for _ in range(2):
            assignment = next_assignment(expert=expert)
            found[assignment.comparison.prompt.language] = assignment.minimum_seconds
            give(assignment, "tie")
        assert found == {"en": 400 / 40, "zh": 300 / 15}

    def test_the_seconds_are_kept(self, assignment: Assignment) -> None:
        self.opened(assignment, ago=300)
        assert give(assignment, seconds=90.5).seconds == 90.5

    def test_nobody_reads_longer_than_the_page_was_open(self, assignment: Assignment) -> None:
        self.opened(assignment, ago=30)
        assert give(assignment, seconds=4000).seconds == pytest.approx(30, abs=5)

    def test_a_page_left_open_for_days_counts_as_one(self, assignment: Assignment) -> None:
        self.opened(assignment, ago=10 * 86_400)
        assert give(assignment, seconds=9 * 86_400).seconds == 86_400

    @pytest.mark.parametrize(("seconds", "hurried"), [(59, True), (60, False), (61, False)])
    def test_less_than_the_minimum_is_observed(self, assignment: Assignment, seconds: float, hurried: bool) -> None:
        self.opened(assignment, ago=300)
        assert give(assignment, seconds=seconds).hurried is hurried

    def test_a_hurried_answer_is_taken_like_any_other(self, judging: Client, assignment: Assignment) -> None:
        self.opened(assignment, ago=300, minimum=100)
        assert submit(judging, assignment, best=1, seconds=2, **open_tab(judging, assignment)).status_code == 302
        assert Judgement.objects.get().hurried
        assert preference_pairs(preference_judgements())

    def test_an_unknown_time_is_not_hurried(self, assignment: Assignment) -> None:
        kept = give(assignment)
        assert (kept.seconds, kept.hurried) == (None, False)

    @pytest.mark.parametrize("seconds", ["-1", "nan", "inf", "soon"])
    def test_a_time_that_is_none_is_sent_back(self, judging: Client, assignment: Assignment, seconds: str) -> None:
        assert submit(judging, assignment, best=1, seconds=seconds).status_code == 422
