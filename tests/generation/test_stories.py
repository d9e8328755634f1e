"""Having a policy write stories: what is kept, what is drawn again, what is given up."""

import threading
from collections.abc import Callable, Iterator, Sequence

import pytest
from django.db import connection

from generation.engines.values import Completion, EngineError, Request
from generation.models import Policy, Prompt, Story
from generation.stories import MAX_DRAWS, SAMPLING_PLAN, missing_places, seed_for, write_stories
from tests.factories import make_policy, make_prompt, make_story

pytestmark = pytest.mark.django_db

Say = Callable[[Request], tuple[str, str]]


def draw_of(request: Request) -> int:
    return request.sampling.seed % 100


class PenEngine:
    """An engine that answers each request with `say(request)`: (text, finish reason), last first."""

    def __init__(self, policy: Policy, say: Say = lambda r: (f"Story {r.sampling.seed}.", "stop")) -> None:
        self.weights_hash = policy.weights_hash
        self.say = say
        self.asked: list[Request] = []

    def write(self, requests: Sequence[Request]) -> Iterator[Completion]:
        self.asked += requests
        for request in reversed(requests):
            text, reason = self.say(request)
            ids = tuple(text.encode())
            yield Completion(request.key, f"<user>{request.prompt}<story>", text, ids, reason)


@pytest.fixture
def policy() -> Policy:
    return make_policy()


@pytest.fixture
def prompt() -> Prompt:
    return make_prompt()


def run(policy: Policy, say: Say | None = None, count: int = 3):
    engine = PenEngine(policy, say) if say else PenEngine(policy)
    return write_stories(policy=policy, prompts=Prompt.objects.all(), engine=engine, count=count)


@pytest.mark.parametrize("index", range(5))
def test_each_place_is_drawn_with_temperature_top_p_and_min_p_of_its_own(policy, prompt, index):
    run(policy, count=5)
    story = Story.objects.get(sample_index=index)
    assert (story.temperature, story.top_p, story.min_p) == SAMPLING_PLAN[index]
    assert story.seed == seed_for(prompt, index, 1)


def test_a_story_is_kept_as_the_engine_wrote_it(policy, prompt):
    run(policy)
    story = Story.objects.get(sample_index=1)
    assert story.text == f"Story {story.seed}."
    assert story.token_ids == list(story.text.encode())
    assert story.rendered_prompt == f"<user>{prompt.text}<story>"
    assert (story.finish_reason, story.draws, story.weights_hash) == ("stop", 1, policy.weights_hash)


def test_the_engine_is_asked_for_what_is_stored(policy, prompt, settings):
    settings.MAX_STORY_TOKENS = 77
    engine = PenEngine(policy)
    write_stories(policy=policy, prompts=[prompt], engine=engine, count=3)
    asked = {(r.prompt, r.sampling.temperature, r.sampling.seed, r.sampling.max_tokens) for r in engine.asked}
    assert asked == {(prompt.text, s.temperature, s.seed, 77) for s in Story.objects.all()}


def test_no_two_places_or_draws_share_a_seed():
    prompts = [make_prompt() for _ in range(3)]
    seeds = [seed_for(p, i, draw) for p in prompts for i in range(5) for draw in range(1, MAX_DRAWS + 1)]
    assert len(set(seeds)) == len(seeds)


def test_only_the_missing_stories_are_asked_for(policy, prompt):
    other = make_prompt()
    make_story(policy, prompt, 1)
    make_story(make_policy(), other, 0)
    assert missing_places(policy, [prompt, other], 3) == [(prompt, 0), (prompt, 2), (other, 0), (other, 1), (other, 2)]


def test_a_policy_that_has_written_everything_is_asked_for_nothing(policy, prompt):
    run(policy)
    engine = PenEngine(policy)
    written = write_stories(policy=policy, prompts=[prompt], engine=engine, count=3)
    assert (engine.asked, written.wanted, written.stored) == ([], 0, 0)


def test_more_stories_can_be_asked_for_later(policy, prompt):
    run(policy, count=3)
    before = set(Story.objects.values_list("pk", "text"))
    run(policy, count=5)
    assert Story.objects.count() == 5
    assert before < set(Story.objects.values_list("pk", "text"))


def test_a_killed_run_goes_on_and_writes_no_story_twice(policy, prompt):
    make_prompt()

    def killed(done: int, wanted: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_stories(policy=policy, prompts=Prompt.objects.all(), engine=PenEngine(policy), count=3, on_story=killed)
    kept = set(Story.objects.values_list("pk", flat=True))
    assert len(kept) == 4
    assert run(policy).stored == 2
    assert kept < set(Story.objects.values_list("pk", flat=True))


def test_progress_counts_each_story(policy, prompt):
    seen = []
    write_stories(
        policy=policy,
        prompts=[prompt],
        engine=PenEngine(policy),
        count=3,
        on_story=lambda done, wanted: seen.append((done, wanted)),
    )
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_a_story_equal_to_a_sister_is_drawn_again_with_a_new_seed(policy, prompt):
    written = run(policy, lambda r: ("The same." if draw_of(r) == 1 else f"Story {r.sampling.seed}.", "stop"))
    stories = {(s.draws, s.seed) for s in Story.objects.all()}
    assert stories == {(1, seed_for(prompt, 2, 1)), (2, seed_for(prompt, 0, 2)), (2, seed_for(prompt, 1, 2))}
    assert (written.stored, written.redrawn, written.given_up) == (3, 2, 0)


def test_the_same_story_may_be_told_for_two_prompts(policy, prompt):
    make_prompt()
    index_of = {t: i for i, (t, _, _) in enumerate(SAMPLING_PLAN)}
    assert run(policy, lambda r: (f"Story {index_of[r.sampling.temperature]}.", "stop")).redrawn == 0


def test_a_place_is_given_up_after_the_same_story_too_often(policy, prompt):
    written = run(policy, lambda r: ("The same.", "stop"))
    assert Story.objects.count() == 1
    assert written.given_up == 2
    assert "2 places stay empty: the policy wrote the same or an empty story 4 times." in written.summary()


@pytest.mark.parametrize("text", ["", "\x00"])
def test_an_empty_story_is_never_stored(policy, prompt, text):
    written = run(policy, lambda r: (text, "stop"))
    assert not Story.objects.exists()
    assert written.given_up == 3


def test_an_empty_story_that_was_cut_off_is_never_stored(policy, prompt):
    assert run(policy, lambda r: ("", "length")).given_up == 3


def test_a_given_up_place_is_tried_again_by_the_next_run(policy, prompt):
    run(policy, lambda r: ("", "stop"))
    assert run(policy).stored == 3


def test_a_story_that_was_cut_off_is_drawn_again(policy, prompt):
    written = run(policy, lambda r: (f"Story {r.sampling.seed}.", "length" if draw_of(r) == 1 else "stop"))
    assert set(Story.objects.values_list("finish_reason", "draws")) == {("stop", 2)}
    assert (written.redrawn, written.cut_off) == (3, 0)


def test_a_story_that_is_always_cut_off_is_kept_and_marked(policy, prompt):
    written = run(policy, lambda r: (f"Story {r.sampling.seed}", "length"))
    assert set(Story.objects.values_list("finish_reason", "draws")) == {("length", MAX_DRAWS)}
    assert (written.stored, written.cut_off, written.given_up) == (3, 3, 0)


def test_a_story_that_was_cut_off_is_not_among_the_finished(policy, prompt):
    run(policy, lambda r: (f"Story {r.sampling.seed}", "stop" if r.sampling.temperature == 1.0 else "length"))
    assert [story.sample_index for story in policy.stories.finished()] == [1]


def test_the_summary_says_what_to_do_about_stories_that_were_cut_off(policy, prompt, settings):
    settings.MAX_STORY_TOKENS = 99
    summary = run(policy, lambda r: (f"Story {r.sampling.seed}", "length")).summary()
    assert "3 stories were cut off at 99 tokens" in summary
    assert "Raise STORYLOOP_MAX_STORY_TOKENS" in summary


def test_the_summary_of_a_run_without_faults_is_one_sentence(policy, prompt):
    assert run(policy).summary() == "3 stories written, 0 drawn again."


def test_weights_that_have_changed_on_disk_stop_the_run_and_nothing_is_stored(policy, prompt):
    engine = PenEngine(policy)
    engine.weights_hash = "f" * 64
    with pytest.raises(
        EngineError, match=rf"{policy.name} have changed on disk .*ffffffffffff instead of 000000000000"
    ):
        write_stories(policy=policy, prompts=[prompt], engine=engine, count=3)
    assert (engine.asked, Story.objects.count()) == ([], 0)


def test_a_nul_that_the_model_wrote_is_left_out(policy, prompt):
    run(policy, lambda r: (f"A\x00 fox {r.sampling.seed}.", "stop"))
    assert Story.objects.filter(text__startswith="A fox").count() == 3


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("same_texts", [True, False])
def test_two_runs_at_once_store_each_story_once(policy, same_texts):
    prompts = [make_prompt() for _ in range(8)]
    together, runs = threading.Barrier(2), []

    def work(name: str) -> None:
        def say(request: Request) -> tuple[str, str]:
            if request.key == len(prompts) * 3 - 1:
                together.wait(10)  # both have found every place empty
            return f"Story {request.sampling.seed} of {name}.", "stop"

        try:
            runs.append(write_stories(policy=policy, prompts=prompts, engine=PenEngine(policy, say), count=3))
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=["us" if same_texts else name]) for name in ("me", "you")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(Story.objects.values_list("prompt", "sample_index"))) == Story.objects.count() == 24
    assert (sum(r.stored for r in runs), sum(r.given_up for r in runs)) == (24, 0)
