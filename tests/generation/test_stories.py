"""A worker's part of a writing run: what is kept, what is drawn again, what is given up."""

import pytest
from django.db import connection

from generation.engines.values import Completion, EngineError, Request
from generation.models import EmptyPlace, Policy, Prompt, Redraw, RunState, Story, WritingRun
from generation.plan import MAX_DRAWS, default_plan, save_plan, seed_for
from generation.runs import NAMESPACE, RunEnded, begin_or_join, cancel, report
from generation.stories import Written, write_stories
from tests.factories import make_policy, make_prompt, make_story
from tests.generation.pens import PenEngine, Said, Say, draw_of, place_of, tale, whole

pytestmark = pytest.mark.django_db

CHINESE = "从前有一只小狐狸，它住在山上。"
LONG = " ".join(f"{a}{b}" for a in "bcdfghjk" for b in "aeiou")  # 40 words, none twice


@pytest.fixture
def policy() -> Policy:
    return make_policy()


@pytest.fixture
def prompt() -> Prompt:
    return make_prompt()


def begin(policy: Policy, count: int = 3) -> WritingRun:
    return begin_or_join(policy=policy, count=count, engine="pen")


def write(policy: Policy, say: Say = whole, *, count: int = 3, engine: PenEngine | None = None) -> Written:
    return write_stories(
        run=begin(policy, count), engine=engine or PenEngine(say), accepted=frozenset({policy.weights_hash})
    )


def first_draws(*said: Said) -> Say:
    """Says `said` at the places' first draws, and whole stories at all others."""

    def say(request: Request) -> Said:
        at_first = draw_of(request) == 1 and place_of(request) < len(said)
        return said[place_of(request)] if at_first else whole(request)

    return say


def faults() -> dict[str, int]:
    return dict(Redraw.objects.values_list("fault", "draws"))


# --- what is asked for and kept ----------------------------------------------------------------------------


def test_a_story_is_kept_as_the_engine_wrote_it(policy, prompt):
    write(policy)
    story = Story.objects.get(sample_index=1)
    assert story.text == tale(story.seed)
    assert story.token_ids == list(story.text.encode())
    assert story.rendered_prompt == f"<user>{prompt.text}<story>"
    assert (story.finish_reason, story.draws, story.weights_hash) == ("stop", 1, policy.weights_hash)
    assert (story.engine, story.run) == ("pen 1.0", WritingRun.objects.get())


@pytest.mark.parametrize("index", range(5))
def test_each_place_is_drawn_as_its_row_of_the_plan_says(policy, prompt, index):
    rows = default_plan()
    rows[index].top_p, rows[index].top_k, rows[index].repetition_penalty, rows[index].seed = 0.9, 40, 1.1, 7
    save_plan(rows=rows)
    write(policy, count=5)
    story, row = Story.objects.get(sample_index=index), rows[index]
    assert (story.temperature, story.min_p) == (row.temperature, row.min_p)
    assert (story.top_p, story.top_k, story.repetition_penalty) == (0.9, 40, 1.1)
    assert story.seed == seed_for(prompt, index, 1, 7)


def test_the_engine_is_asked_for_what_is_stored(policy, prompt, settings):
    settings.MAX_STORY_TOKENS = 77
    engine = PenEngine()
    write(policy, engine=engine)
    asked = {(r.prompt, r.sampling.temperature, r.sampling.seed, r.sampling.max_tokens) for r in engine.asked}
    assert asked == {(prompt.text, s.temperature, s.seed, 77) for s in Story.objects.all()}


def test_only_the_missing_stories_are_asked_for(policy, prompt):
    other = make_prompt()
    make_story(policy, prompt, 1, tale(1))
    make_story(make_policy(), other, 0)
    engine = PenEngine()
    write(policy, engine=engine)
    assert [(r.prompt, place_of(r)) for r in engine.asked] == [
        *((prompt.text, i) for i in (0, 2)),
        *((other.text, i) for i in (0, 1, 2)),
    ]


def test_a_policy_that_has_written_everything_is_asked_for_nothing(policy, prompt):
    write(policy)
    engine = PenEngine()
    assert write(policy, engine=engine).stored == 0
    assert engine.asked == []


def test_more_stories_can_be_asked_for_later(policy, prompt):
    write(policy, count=3)
    before = set(Story.objects.values_list("pk", "text"))
    write(policy, count=5)
    assert Story.objects.count() == 5
    assert before < set(Story.objects.values_list("pk", "text"))


def test_a_nul_that_the_model_wrote_is_left_out(policy, prompt):
    write(policy, lambda r: ("A\x00" + tale(r.sampling.seed), "stop"))
    assert Story.objects.filter(text__startswith="AA fox").count() == 3


def test_the_run_is_done_with_its_summary(policy, prompt):
    write(policy)
    run = WritingRun.objects.get()
    assert (run.state, run.stored, run.wanted) == (RunState.DONE, 3, 3)
    assert run.message == "Stories written: 3; drawn again: 0."


def test_a_run_that_several_workers_shared_says_what_all_of_them_wrote(policy, prompt):
    run = begin(policy)
    report(run, {"same": 2})  # another worker
    make_story(policy, prompt, 0, run=run)
    write(policy)
    assert WritingRun.objects.get().message == "Stories written: 3; drawn again: 2."


def test_progress_ends_with_all_that_was_stored(policy, prompt):
    seen: list[int] = []
    write_stories(
        run=begin(policy),
        engine=PenEngine(),
        accepted=frozenset({policy.weights_hash}),
        on_progress=lambda written: seen.append(written.stored),
    )
    assert seen == sorted(seen)
    assert seen[-1] == 3


# --- what is drawn again -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("empty", ("", "stop")),
        ("empty", ("\x00", "stop")),
        ("empty", ("", "length")),
        ("cut_off", (tale(1), "length")),
        ("language", (CHINESE, "stop")),
    ],
)
def test_a_faulty_draw_is_made_again_with_a_new_seed(policy, prompt, fault, said):
    written = write(policy, first_draws(said))
    story = Story.objects.get(sample_index=0)
    assert (story.draws, story.seed, story.text) == (2, seed_for(prompt, 0, 2), tale(story.seed))
    assert (written.stored, written.redrawn, written.given_up, faults()) == (3, 1, 0, {fault: 1})


@pytest.mark.parametrize(
    ("fault", "second"), [("same", LONG), ("near", LONG.replace("du", "moon"))], ids=["same", "near"]
)
def test_of_two_alike_the_later_place_is_drawn_again(policy, prompt, fault, second):
    written = write(policy, first_draws((LONG, "stop"), (second, "stop")))
    assert list(Story.objects.order_by("sample_index").values_list("draws", flat=True)) == [1, 2, 1]
    assert (written.redrawn, faults()) == (1, {fault: 1})


def test_a_story_like_one_of_an_earlier_run_is_drawn_again(policy, prompt):
    make_story(policy, prompt, 2, LONG)
    write(policy, first_draws((LONG, "stop")))
    assert (Story.objects.get(sample_index=0).draws, faults()) == (2, {"same": 1})


def test_the_same_story_may_be_told_for_two_prompts(policy, prompt):
    make_prompt()
    assert write(policy, lambda r: (tale(place_of(r)), "stop")).redrawn == 0


def test_english_is_the_wrong_language_for_a_chinese_prompt(policy):
    make_prompt(language="zh")
    write(policy, first_draws((tale(1), "stop")))
    assert faults()["language"] >= 1


def test_the_run_counts_what_was_drawn_again_by_fault(policy, prompt):
    write(
        policy,
        first_draws(("", "stop"), (CHINESE, "stop"), (tale(1), "length"), (LONG, "stop"), (LONG, "stop")),
        count=5,
    )
    run = WritingRun.objects.get()
    assert faults() == {"empty": 1, "language": 1, "cut_off": 1, "same": 1}
    assert (run.stored, run.cut_off) == (5, 0)


# --- what is given up --------------------------------------------------------------------------------------


def message() -> str:
    return WritingRun.objects.get().message


def test_a_place_is_given_up_after_so_many_draws(policy, prompt):
    engine = PenEngine(lambda r: (LONG, "stop"))
    written = write(policy, engine=engine)
    assert Story.objects.count() == 1
    assert (written.given_up, written.redrawn) == (2, 2 * (MAX_DRAWS - 1))
    assert len(engine.asked) == 1 + 2 * MAX_DRAWS
    assert set(EmptyPlace.objects.values_list("sample_index", "fault")) == {(1, "same"), (2, "same")}
    assert f"Places that stay empty: 2, for which the policy wrote {MAX_DRAWS} times a story" in message()


def test_what_a_run_gave_up_is_not_counted_as_drawn_again(policy, prompt):
    written = write(policy, lambda r: (LONG, "stop"))
    assert f"drawn again: {written.redrawn}." in message()


@pytest.mark.parametrize("said", [("", "stop"), ("", "length"), ("\x00", "stop"), (CHINESE, "stop")])
def test_an_empty_story_or_one_in_another_language_is_never_stored(policy, prompt, said):
    assert write(policy, lambda r: said).given_up == 3
    assert not Story.objects.exists()


def test_a_cut_off_story_in_another_language_is_never_stored(policy, prompt):
    write(policy, lambda r: (CHINESE, "length"))
    assert not Story.objects.exists()


def test_a_given_up_place_is_tried_again_by_the_next_run(policy, prompt):
    write(policy, lambda r: ("", "stop"))
    assert write(policy).stored == 3


def test_a_story_that_is_always_cut_off_is_kept_and_marked(policy, prompt):
    written = write(policy, lambda r: (tale(r.sampling.seed), "length"))
    assert set(Story.objects.values_list("finish_reason", "draws")) == {("length", MAX_DRAWS)}
    assert (written.stored, written.cut_off, written.given_up) == (3, 3, 0)
    assert WritingRun.objects.get().cut_off == 3


def test_of_cut_off_stories_that_are_alike_one_is_kept(policy, prompt):
    assert write(policy, lambda r: (LONG, "length")).given_up == 2
    assert Story.objects.get().sample_index == 0


def test_a_prompt_that_is_too_long_is_not_drawn_again(policy, prompt):
    engine = PenEngine(lambda r: ("", "too_long"))
    written = write(policy, engine=engine)
    assert len(engine.asked) == 3
    assert (written.redrawn, written.given_up, faults()) == (0, 3, {"too_long": 3})


def test_a_prompt_that_is_too_long_leaves_the_others_alone(policy, prompt):
    make_prompt()
    write(policy, lambda r: ("", "too_long") if r.prompt == prompt.text else whole(r))
    assert (Story.objects.count(), prompt.stories.count(), WritingRun.objects.get().state) == (3, 0, RunState.DONE)


# --- what a person is told ---------------------------------------------------------------------------------


def test_the_summary_says_what_to_do_about_stories_that_were_cut_off(policy, prompt, settings):
    settings.MAX_STORY_TOKENS = 99
    write(policy, lambda r: (tale(r.sampling.seed), "length"))
    assert "Cut off at 99 tokens: 3." in message()
    assert "Raise STORYLOOP_MAX_STORY_TOKENS" in message()


def test_the_summary_says_what_to_do_about_prompts_that_are_too_long(policy, prompt):
    write(policy, lambda r: ("", "too_long"))
    assert "Places that stay empty: 3, whose prompt and 96 tokens for the story do not fit the model." in message()
    assert "the policy wrote" not in message()


# --- other weights, and ends -------------------------------------------------------------------------------


def test_an_engine_with_other_weights_writes_nothing(policy, prompt):
    engine = PenEngine(weights_hash="f" * 64)
    with pytest.raises(EngineError, match=rf"{policy.name} have changed .*ffffffffffff instead of 000000000000"):
        write(policy, engine=engine)
    assert (engine.asked, Story.objects.count()) == ([], 0)


def test_a_story_that_other_weights_wrote_stops_the_run_and_is_not_stored(policy, prompt):
    class Swapped(PenEngine):
        def completion(self, request: Request) -> Completion:
            self.weights_hash = "f" * 64 if place_of(request) == 1 else "0" * 64
            return super().completion(request)

    with pytest.raises(EngineError, match="says that weights ffffffffffff wrote a story"):
        write(policy, engine=Swapped())
    assert set(Story.objects.values_list("sample_index", "weights_hash")) == {(0, "0" * 64)}


def test_weights_that_the_policy_may_be_reported_by_are_accepted(policy, prompt):
    engine = PenEngine(weights_hash="a" * 64)
    write_stories(run=begin(policy), engine=engine, accepted=frozenset({"0" * 64, "a" * 64}))
    assert set(Story.objects.values_list("weights_hash", flat=True)) == {"a" * 64}


def test_a_worker_that_stops_gives_its_prompts_back(policy, prompt):
    with pytest.raises(EngineError):
        write(policy, engine=PenEngine(weights_hash="f" * 64))
    write(policy)
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = %s", [NAMESPACE])
        assert cursor.fetchone() == (0,)


def test_a_run_that_is_cancelled_stops_its_worker_and_keeps_what_is_written(policy, monkeypatch):
    monkeypatch.setattr("generation.stories.REPORT_SECONDS", 0.0)
    for _ in range(4):
        make_prompt()
    run = begin(policy)

    def say(request: Request) -> Said:
        if request.key == 5:
            cancel(run)
        return whole(request)

    with pytest.raises(RunEnded, match="cancelled"):
        write_stories(run=run, engine=PenEngine(say, size=3), accepted=frozenset({policy.weights_hash}))
    run.refresh_from_db()
    assert (run.state, run.stored, Story.objects.count()) == (RunState.CANCELLED, 6, 6)
