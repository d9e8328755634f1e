"""What is checked before a round is launched, and what is told of it: coverage, examples, differences."""

import pytest

from annotate.comparisons import close_comparisons
from annotate.models import Comparison, CriterionWinner, Judgement
from generation.models import Policy, Prompt
from tests.factories import judge_by_story, make_comparison, make_expert, make_policy, make_prompt
from tests.training.test_models import make_round
from training import schedule
from training.described import compared, described, lasting, lines_of, size
from training.launching import CannotLaunch, check_settings, prepare, settings_of
from training.models import Round, State
from training.preview import MIN_PROMPTS, dry_run, examples, remarks, summarize, summary_of
from training.rounds import launch_round
from training.selection import Selection, pairs

pytestmark = pytest.mark.django_db
DEFAULTS = schedule.DEFAULTS


@pytest.fixture
def policy() -> Policy:
    found = make_policy("base", current=True)
    judge_by_story(make_expert(), list(make_comparison(3, policy=found).stories.all()))
    return found


class TestCheck:
    @pytest.mark.parametrize(
        ("part", "wrong"),
        [
            ("beta", {"beta": 0.6}),
            ("beta", {"beta": 11.0, "loss": "sigmoid_norm"}),
            ("beta", {"beta": "0.2"}),
            ("epochs", {"epochs": 4}),
            ("lora_rank", {"lora_rank": 0}),
            ("learning_rate", {"learning_rate": float("nan")}),
            ("reference", {"reference": "yesterday"}),
            ("objectives", {"objectives": "structure=-1"}),
            ("criteria", {"objectives": "length=1"}),
            ("min_agreement", {"selection": {"min_agreement": 0.2}}),
            ("stages", {"stages": [{"criterion": "structure"}]}),
            ("stages", {"stages": [{"criterion": "structure", "beta": 0.9}]}),
            ("stages", {"stages": [{"criterion": "structure", "beta": 0.2}] * 2}),
            ("stages", {"stages": [{"criterion": "structure", "beta": 0.2}], "objectives": "creativity=1"}),
            ("reference", {"stages": [{"criterion": "structure", "beta": 0.2}], "reference": "base"}),
            ("label_smoothing", {"label_smoothing": 0.1, "loss": "ipo"}),
        ],
    )
    def test_what_cannot_be_launched_is_refused_by_name(self, part: str, wrong: dict) -> None:
        with pytest.raises(CannotLaunch) as error:
            check_settings(**{**DEFAULTS, **wrong})
        assert error.value.part == part

    def test_a_loss_that_averages_takes_a_larger_beta(self) -> None:
        assert check_settings(**{**DEFAULTS, "beta": 5.0, "loss": "sigmoid_norm"})

    def test_the_selection_has_the_criteria_that_are_trained_on(self) -> None:
        selection, _ = check_settings(**{**DEFAULTS, "objectives": "structure=1,creativity=0.5"})
        assert selection.criteria == ("structure", "creativity")
        selection, _ = check_settings(**{**DEFAULTS, "stages": [{"criterion": "engagement", "beta": 0.1}]})
        assert selection.criteria == ("engagement",)


class TestPrepare:
    def test_a_selection_that_leaves_nothing_over_says_what_to_widen(self, policy: Policy) -> None:
        with pytest.raises(CannotLaunch, match="The selection leaves no pair over"):
            prepare(**{**DEFAULTS, "selection": {"languages": ["zh"]}})

    def test_a_criterion_that_nobody_was_asked_about_says_so(self, policy: Policy) -> None:
        with pytest.raises(CannotLaunch, match="No pairs are judged by “Creativity”"):
            prepare(**{**DEFAULTS, "objectives": "overall=1,creativity=1"})

    def test_it_says_that_simulated_experts_would_have_something(self) -> None:
        stories = make_comparison(2, policy=make_policy(current=True)).stories.all()
        judge_by_story(make_expert(simulated=True), list(stories))
        with pytest.raises(CannotLaunch, match="they count only if you say so"):
            prepare(**DEFAULTS)

    def test_the_round_keeps_what_it_was_launched_with_and_another_can_be_launched_alike(self, policy: Policy) -> None:
        winner = policy.stories.first()
        CriterionWinner.objects.create(judgement=Judgement.objects.get(), criterion="creativity", story=winner)
        given = {
            **DEFAULTS,
            "objectives": "overall=1,creativity=0.5",
            "selection": Selection(which="adjacent", languages=("en",)),
            "reference": "base",
        }
        launched = launch_round(**given)
        assert launched.selection["which"] == "adjacent"
        assert launched.selection["criteria"] == ["overall", "creativity"]
        Round.objects.update(state=State.FAILED, message="no disk")
        again = launch_round(**settings_of(launched))
        assert settings_of(again) == settings_of(launched)


class TestPreview:
    def test_counts_are_of_the_selections_pairs(self, policy: Policy) -> None:
        judge_by_story(make_expert(simulated=True), list(make_comparison(2, policy=policy).stories.all()))
        found = summary_of(Selection(simulated=True), policy)
        assert (found.pairs, found.comparisons, found.prompts, found.experts) == (4, 2, 2, 2)
        assert found.simulated == 1 / 4
        assert found.parts[""].groups == 2
        assert summary_of(Selection(), policy).experts == 1

    def test_a_new_judgement_is_counted_at_once(self, policy: Policy) -> None:
        assert summary_of(Selection(), policy).pairs == 3
        judge_by_story(make_expert(), list(make_comparison(2, policy=policy).stories.all()))
        assert summary_of(Selection(), policy).pairs == 4

    def test_what_few_pairs_are_of_is_thin(self, policy: Policy) -> None:
        """12 prompts of one theme, all judged; 2 of 12 of another; 1 of 1 of a third."""
        for number in range(24):
            prompt = make_prompt()
            Prompt.objects.filter(pk=prompt.pk).update(theme="sharing" if number % 2 else "honesty")
            if number % 2 or number < 4:
                judge_by_story(make_expert(), list(make_comparison(2, policy=policy, prompt=prompt).stories.all()))
        found = {one.name: one for one in summary_of(Selection(), policy).coverage if one.dimension == "theme"}
        assert {name: (one.prompts, one.of) for name, one in found.items()} == {
            "courage": (1, 1), "honesty": (2, 12), "sharing": (12, 12)
        }  # fmt: skip
        assert {name for name, one in found.items() if one.thin} == {"honesty"}
        assert found["honesty"].prompts < MIN_PROMPTS

    def test_a_dry_run_writes_nothing_and_shows_pairs_as_text(self, policy: Policy, settings, tmp_path) -> None:
        settings.EXPORT_DIR = settings.MODEL_DIR = tmp_path
        tried = dry_run(prepare(**DEFAULTS))
        assert tried.summary.pairs == len(tried.examples) == 3
        assert tried.examples[0].pair.chosen.text.startswith("Story")
        assert any("/models/none is not a directory" in problem for problem in tried.problems)
        assert any("no evaluation prompts" in problem for problem in tried.problems)
        assert not Round.objects.exists()
        assert list(tmp_path.iterdir()) == []

    def test_examples_are_spread_over_the_pairs(self, policy: Policy) -> None:
        for _ in range(4):
            judge_by_story(make_expert(), list(make_comparison(2, policy=policy).stories.all()))
        found = pairs(Selection(), policy)
        assert [one.pair for one in examples(found)] == [found[0], found[3], found[6]]

    def test_label_smoothing_is_offered_from_the_experts_agreement_on_the_selection(self) -> None:
        """Two experts on 30 pairs of stories, of one mind about 27: e = (1 - sqrt(2 * 0.9 - 1)) / 2 = 0.0528 of the
        votes are wrong, and of pairs that both prefer 1 / (1 + (0.9472 / 0.0528)^2) = 0.0031. The other three make
        no pair."""
        policy = make_policy(current=True)
        for number in range(10):
            comparison = make_comparison(3, policy=policy)
            stories = list(comparison.stories.all())
            judge_by_story(make_expert(), stories)
            judge_by_story(make_expert(), stories[::-1] if number == 1 else stories)
            close_comparisons(Comparison.objects.filter(pk=comparison.pk))
        found = summary_of(Selection(), policy)
        assert found.pairs == 27
        assert found.smoothing == pytest.approx(0.0031, abs=5e-5)

    def test_without_a_pair_there_are_zeros(self, policy: Policy) -> None:
        found = summarize(Selection(), policy, [])
        assert (found.pairs, found.simulated, found.smoothing) == (0, 0, None)


class TestWords:
    def test_a_rate_beyond_the_usual_is_remarked_on_by_method_and_size(self) -> None:
        assert "learning_rate" in remarks(DEFAULTS, 7_000_000_000)
        assert "learning_rate" not in remarks(DEFAULTS, 7_000_000)
        assert "learning_rate" not in remarks({**DEFAULTS, "method": "lora"}, 7_000_000_000)

    def test_what_differs_from_another_round_is_marked(self, policy: Policy) -> None:
        other = make_round(policy=policy, learning_rate=1e-4, sft_weight=0.2)
        ours = described(Selection(which="adjacent"), {**DEFAULTS, "beta": 0.3})
        found = [line.name for line in compared(ours, lines_of(other)) if line.differs]
        assert found == ["which", "beta", "learning_rate"]

    def test_time_and_size_are_said_with_the_units_that_fit(self) -> None:
        assert [lasting(s) for s in (41.4, 90, 7300)] == ["41 s", "1 min 30 s", "2 h 1 min"]
        assert [size(b) for b in (27.3e6, 4.25e9)] == ["28 MB", "4.2 GB"]
