"""Listening with a child: which pairs are heard, what is kept of them, and what it says of two policies."""

from collections import Counter
from uuid import uuid4

import pytest
from django.utils import timezone

from annotate.comparisons import close_comparisons, open_evaluation_comparisons
from annotate.intervals import interval
from annotate.judgements import record_judgement
from annotate.listening import Chosen, Side, child_win_rate
from annotate.listening_sessions import (
    PICTURE_PAIRS,
    NoStories,
    Superseded,
    end_session,
    fits,
    next_listening,
    record_choice,
    record_notes,
    start_session,
)
from annotate.models import Comparison, Judgement, Listening, ListeningSession, Place
from annotate.pairs import preference_pairs
from annotate.queue import next_assignment
from annotate.winrates import Outcome, win_rate
from generation.models import Policy, Prompt, Story
from tests.annotate.hearing import begin, choose, go_on, of
from tests.factories import make_comparison, make_evaluation, make_expert, make_policy

pytestmark = pytest.mark.django_db


@pytest.fixture
def new() -> Policy:
    return make_policy()


@pytest.fixture
def old() -> Policy:
    return make_policy()


def about(comparison: Comparison, **fields: object) -> Comparison:
    """The comparison, its prompt changed."""
    Prompt.objects.filter(pk=comparison.prompt_id).update(**fields)
    return comparison


def withdraw(story: Story) -> None:
    Story.objects.filter(pk=story.pk).update(withdrawn_at=timezone.now())


def test_a_child_hears_stories_of_its_age_in_its_language(new: Policy, old: Policy) -> None:
    about(make_evaluation(new, old), language="zh", age_band="7-8")
    about(make_evaluation(new, old), age_band="5-6")
    Comparison.objects.update(draw_order=-1)  # so that these would come first
    fitting = about(make_evaluation(new, old), age_band="7 to 9")
    heard = begin(fitting, age_band="7-8")
    assert heard.comparison == fitting
    assert {heard.first, heard.second} == set(fitting.stories.all())
    assert go_on(choose(heard, new)).comparison.prompt.age_band == "5-6"  # rather than none


@pytest.mark.parametrize(
    ("band", "fitting"), [("5-6", True), ("6", True), ("4-5", True), ("6-7 years", True), ("7-8", False), ("", False)]
)
def test_a_prompts_age_band_fits_if_it_touches_the_childs(band: str, fitting: bool) -> None:
    assert fits(band, "5-6") is fitting


def test_preference_comparisons_and_withdrawn_stories_are_not_heard(new: Policy, old: Policy) -> None:
    make_comparison(2)
    withdraw(make_evaluation(new, old).stories.first())
    key = uuid4()
    with pytest.raises(NoStories, match="no more stories"):
        start_session(key=key, adult=make_expert().user, language="en", age_band="5-6", read_by="adult")
    assert not ListeningSession.objects.exists()


def test_what_is_still_in_the_queue_comes_first_then_what_was_heard_least(new: Policy, old: Policy) -> None:
    closed, often, seldom = (make_evaluation(new, old) for _ in range(3))
    close_comparisons([closed])
    Comparison.objects.filter(pk=often.pk).update(draw_order=-1)
    assert [begin(often).comparison for _ in range(2)] == [often, seldom]
    heard = begin(often)
    order = [heard.comparison]
    for _ in range(2):
        order.append(go_on(choose(Listening.objects.latest("pk"), new)).comparison)
    assert order == [often, seldom, closed]


def test_an_adult_gets_what_they_have_not_heard_before_what_nobody_else_has(new: Policy, old: Policy) -> None:
    adult = make_expert().user
    mine, others = make_evaluation(new, old), make_evaluation(new, old)
    for who, comparison in ((adult, mine), (make_expert().user, others), (make_expert().user, others)):
        Listening.objects.filter(pk=begin(mine, adult=who).pk).update(comparison=comparison)
    assert begin(mine, adult=adult).comparison == others


def test_no_prompt_comes_twice_in_a_session(new: Policy, old: Policy) -> None:
    """Against the one before and against the base, the new story is the same one."""
    first = make_evaluation(new, old)
    base = make_policy()
    Story.objects.create(
        **{f.attname: getattr(first.stories.get(policy=old), f.attname) for f in Story._meta.fields if f.name != "id"}
        | {"policy_id": base.pk, "text": "The base's fox."}
    )
    open_evaluation_comparisons(policy=new, baseline=base)
    heard = begin(first)
    choose(heard, new)
    with pytest.raises(NoStories):
        go_on(heard)


def test_the_next_pair_waits_until_the_last_is_done_and_two_clicks_are_one(new: Policy, old: Policy) -> None:
    heard = begin(make_evaluation(new, old))
    make_evaluation(new, old)
    assert go_on(heard) == go_on(heard) == heard
    end_session(session=heard.session)
    second = go_on(choose(heard, new))
    assert (second.number, second.session.ended_at) == (2, None)


def test_a_pair_with_a_withdrawn_story_is_passed_over(new: Policy, old: Policy) -> None:
    heard = begin(make_evaluation(new, old))
    other = make_evaluation(new, old)
    withdraw(heard.first)
    assert go_on(heard).comparison == other


def test_order_pictures_sides_and_questions_are_drawn_for_each_pair(new: Policy, old: Policy) -> None:
    drawn: Counter[object] = Counter()
    for _ in range(30):
        make_evaluation(new, old)
    heard = begin(Comparison.objects.first())
    for turn in range(30):
        pair = PICTURE_PAIRS[turn % 3]
        assert {heard.first_picture, heard.second_picture} == set(pair)
        asked_first = heard.asked_about == heard.first
        drawn.update(
            {
                ("new first", heard.first.policy == new): 1,
                ("picture", heard.first_picture == pair[0]): 1,
                ("left", heard.first_on_left): 1,
                ("asked", asked_first): 1,
            }
        )
        heard = go_on(choose(heard, new)) if turn < 29 else heard
    assert len(drawn) == 8  # each of both, in 30 draws; all alike once in 2^29
    assert min(drawn.values()) >= 2


def test_the_same_page_sent_twice_is_one_session_until_something_is_answered(new: Policy, old: Policy) -> None:
    adult, key = make_expert().user, uuid4()
    for _ in range(3):
        make_evaluation(new, old)
    first = begin(Comparison.objects.first(), adult=adult, key=key)
    page = {"key": key, "adult": adult, "language": "en", "age_band": "5-6", "read_by": "adult"}
    assert start_session(**page) == first.session
    assert start_session(**{**page, "age_band": "7-8"}) != first.session
    choose(first, new)
    assert start_session(**page) != first.session


def test_an_answer_is_kept_once_and_changed_only_by_who_knows_it(new: Policy, old: Policy) -> None:
    heard = begin(make_evaluation(new, old))
    first = record_choice(listening=heard, outcome="chosen", position=1, version=0)
    assert record_choice(listening=heard, outcome="chosen", position=1, version=0).version == first.version == 1
    with pytest.raises(Superseded):
        record_choice(listening=heard, outcome="stopped", version=0)
    changed = record_choice(listening=heard, outcome="chosen", position=2, version=1)
    assert (changed.choice, changed.answered_at) == (heard.second, first.answered_at)


def test_notes_are_kept_once_and_changed_only_by_who_knows_them(new: Policy, old: Policy) -> None:
    heard = record_choice(listening=begin(make_evaluation(new, old)), outcome="stopped", version=0)
    notes = {"engagement_first": 2, "understood_who": "partly"}
    first = record_notes(listening=heard, notes=notes, version=1)
    assert record_notes(listening=heard, notes=notes, version=1).version == first.version == 2
    with pytest.raises(Superseded):
        record_notes(listening=heard, notes={}, version=1)
    emptied = record_notes(listening=heard, notes={}, version=2)
    assert (emptied.engagement_first, emptied.understood_who, emptied.outcome) == (None, "", "stopped")


def fill(new: Policy, old: Policy) -> list[Listening]:
    """Three sessions: two wins, a tie and a loss of `new`; one without an answer."""
    for _ in range(5):
        make_evaluation(new, old)
    heard, found = begin(Comparison.objects.first()), []
    for winner in (new, new, None):
        found.append(choose(heard, winner))
        heard = go_on(heard)
    found.append(choose(begin(heard.comparison), old))
    stopped = begin(heard.comparison)
    return [*found, record_choice(listening=stopped, outcome="stopped", version=0)]


def test_the_childrens_rate_is_wins_and_half_the_ties_with_sessions_resampled(new: Policy, old: Policy) -> None:
    kept = fill(new, old)
    found = child_win_rate(new, old)
    rate = found.choices
    assert (rate.n, rate.judges, found.stopped, rate.rate) == (4, 2, 1, 2.5 / 4)
    scores = (1.0, 1.0, 0.5, 0.0)
    votes = [Outcome(x.first.prompt_id, x.session_id, s, False) for x, s in zip(kept, scores, strict=False)]
    assert (rate.low, rate.high) == interval(votes)
    assert child_win_rate(old, new).choices.n == 0  # the other way round nothing was compared
    withdraw(kept[0].first)
    assert child_win_rate(new, old).choices.n == 3


def test_without_a_choice_there_is_no_rate(new: Policy, old: Policy) -> None:
    found = child_win_rate(new, old)
    assert found.choices.as_dict() == {"rate": None, "low": None, "high": None, "n": 0}
    assert (found.policy, found.heard_first, found.choices.enough) == (Side(None, 0, None, 0), Chosen(0, 0), False)


def test_engagement_and_understanding_are_each_policys_own(new: Policy, old: Policy) -> None:
    for _ in range(2):
        make_evaluation(new, old)
    heard = begin(Comparison.objects.first())
    for mine, theirs, asked, who, end in ((5, 2, new, "yes", "partly"), (4, None, old, "no", "")):
        Listening.objects.filter(pk=heard.pk).update(asked_about=of(heard, asked))
        first, second = (mine, theirs) if heard.first.policy == new else (theirs, mine)
        choose(heard, old, engagement_first=first, engagement_second=second, understood_who=who, understood_end=end)
        heard = go_on(heard) if asked == new else heard
    found = child_win_rate(new, old)
    assert found.policy == Side(4.5, 2, 0.75, 2)
    assert found.baseline == Side(2.0, 1, 0.0, 1)


def test_the_lean_to_the_first_story_a_side_and_a_picture_is_counted(new: Policy, old: Policy) -> None:
    for _ in range(4):
        make_evaluation(new, old)
    heard = begin(Comparison.objects.first())
    for turn in range(4):
        left_is_first = turn % 2 == 0
        Listening.objects.filter(pk=heard.pk).update(
            first_picture="sun", second_picture="moon", first_on_left=left_is_first
        )
        record_choice(listening=heard, outcome="chosen", position=1 if turn < 3 else 2, version=0)
        record_notes(listening=heard, notes={}, version=1)
        heard = next_listening(session=heard.session) if turn < 3 else heard
    found = child_win_rate(new, old)
    assert (found.heard_first, found.on_left) == (Chosen(3, 4), Chosen(3, 4))
    assert found.pictures == {"moon": Chosen(1, 4), "sun": Chosen(3, 4)}


def test_an_expert_is_not_handed_what_they_heard_a_child_choose(new: Policy, old: Policy) -> None:
    both = {make_evaluation(new, old), make_evaluation(new, old)}
    reader, stranger = make_expert(), make_expert()
    heard = choose(begin(next(iter(both)), adult=reader.user), new).comparison
    open_to = {who: {place.comparison for place in Place.objects.free().open_to(who)} for who in (reader, stranger)}
    assert open_to == {reader: both - {heard}, stranger: both}


def test_what_children_choose_is_in_no_pair_and_in_no_experts_win_rate(new: Policy, old: Policy) -> None:
    make_comparison(2, policy=old)
    evaluation = make_evaluation(new, old)
    for expert in (make_expert(), make_expert()):
        for _ in range(2):
            assignment = next_assignment(expert=expert)
            ranks = {p: 1 + (pk == max(assignment.shown)) for p, pk in enumerate(assignment.shown, start=1)}
            record_judgement(assignment=assignment, verdict="ranked", ranks=ranks)

    def of_experts() -> object:
        return preference_pairs(Judgement.objects.all()), win_rate(new, old).as_dict()

    before = of_experts()
    for _ in range(3):
        choose(begin(evaluation), old)
    assert child_win_rate(new, old).choices.n == 3
    assert before[0]
    assert of_experts() == before
