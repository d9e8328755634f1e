"""Whether the engine is well: it is started for real, and what came of it is kept."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from generation.checks import KEPT, TOKENS, check_engine
from generation.engines.values import Completion, Request
from generation.models import EngineCheck, Policy
from generation.policies import register_policy
from tests.factories import make_policy, make_prompt
from tests.generation.pens import PenEngine
from tests.models import make_tiny_model

pytestmark = pytest.mark.django_db


@pytest.fixture
def policy(tiny_model) -> Policy:
    return register_policy(name="base", path=tiny_model)


def check(policy: Policy, engine: str = "transformers", **options: bool) -> EngineCheck:
    check_engine(policy=policy, engine=engine, **options)
    return EngineCheck.objects.first()


def test_an_engine_that_writes_is_well_and_its_story_is_kept(policy):
    import transformers

    found = check(policy)
    assert found.well
    assert found.message
    assert (found.engine, found.version, found.policy) == ("transformers", transformers.__version__, policy)
    assert found.start_seconds > 0
    assert found.write_seconds > 0
    assert str(found) == "transformers: well"


def test_the_same_engine_writes_the_same_greedy_story(policy):
    assert check(policy).message == check(policy).message


def test_a_model_that_is_gone_is_not_well_with_the_message():
    found = check(make_policy())
    assert (found.well, found.start_seconds, found.write_seconds) == (False, None, None)
    assert found.message.startswith("/models/none is not a directory.")
    assert str(found) == "transformers: not well"


def test_a_model_that_is_broken_is_not_well_with_the_message(tmp_path):
    model = make_tiny_model(tmp_path / "model", layers=1)
    policy = register_policy(name="base", path=model)
    file = model / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    assert not check(policy).well
    assert "cannot be loaded" in EngineCheck.objects.get().message


def test_weights_that_have_changed_are_not_well(policy):
    Policy.objects.update(weights_hash="f" * 64)
    found = check(Policy.objects.get())
    assert not found.well
    assert found.message.startswith("The weights of base have changed since it was registered")


def test_an_engine_that_is_not_installed_is_not_well_and_says_what_to_do(policy, settings, tmp_path):
    settings.VLLM_PYTHON, settings.VAR_DIR = tmp_path / "no-python", tmp_path
    found = check(policy, "vllm")
    assert not found.well
    assert "STORYLOOP_VLLM_PYTHON" in found.message


def test_the_latest_checks_are_kept(policy):
    for _ in range(KEPT + 5):
        EngineCheck.objects.create(engine="transformers", well=True, message="A fox.")
    latest = check(policy)
    assert EngineCheck.objects.count() == KEPT == 50
    assert latest.message != "A fox."


def test_a_check_outlives_its_policy(policy):
    check(policy)
    policy.delete()
    assert EngineCheck.objects.get().policy is None


# --- engines whose answers are chosen ----------------------------------------------------------------------


@pytest.fixture
def pens(monkeypatch) -> dict[str, PenEngine]:
    """The engines that are opened, by name."""
    pens: dict[str, PenEngine] = {}

    @contextmanager
    def opened(weights: object, settings: object) -> Iterator[PenEngine]:
        yield pens[settings.name]

    monkeypatch.setattr("generation.checks.opened", opened)
    return pens


def says(text: str, reason: str = "stop") -> PenEngine:
    return PenEngine(lambda request: (text, reason))


def test_the_first_prompt_is_asked_for_greedily(pens):
    prompt = make_prompt()
    make_prompt()
    pens["transformers"] = says("A fox.")
    check(make_policy())
    (asked,) = pens["transformers"].asked
    assert (asked.prompt, asked.sampling.temperature, asked.sampling.max_tokens) == (prompt.text, 0.0, TOKENS)


def test_without_prompts_it_asks_for_a_story_of_its_own(pens):
    pens["transformers"] = says("A fox.")
    check(make_policy())
    assert "brave fox" in pens["transformers"].asked[0].prompt


def test_a_nul_in_the_story_is_no_fault_of_the_engine(pens):
    pens["transformers"] = says("A\x00 fox.")
    assert check(make_policy()).well


def test_an_engine_that_has_no_room_for_a_story_is_not_well(pens):
    pens["transformers"] = says("", "too_long")
    assert not check(make_policy()).well


def test_the_same_tokens_as_transformers_are_well(pens):
    pens.update({"vllm": says("A fox."), "transformers": says("A fox.")})
    found = check(make_policy(), "vllm", compare=True)
    assert (found.well, found.engine, found.message) == (True, "vllm", "A fox.")


def test_other_tokens_than_transformers_are_not_well(pens):
    pens.update({"vllm": says("A fox."), "transformers": says("A bat.")})
    found = check(make_policy(), "vllm", compare=True)
    assert not found.well
    assert "of 6 greedy tokens 3 are the same" in found.message
    assert EngineCheck.objects.count() == 1


def test_transformers_is_not_compared_with_itself(pens):
    pens["transformers"] = says("A fox.")
    check(make_policy(), compare=True)
    assert len(pens["transformers"].asked) == 1


def test_a_story_that_other_weights_wrote_is_not_well(pens):
    class Swapped(PenEngine):
        def completion(self, request: Request) -> Completion:
            self.weights_hash = "f" * 64
            return super().completion(request)

    pens["transformers"] = Swapped()
    assert not check(make_policy()).well


def test_the_comparison_is_with_the_policys_merged_weights(pens, monkeypatch):
    pens.update({"vllm": says("A fox."), "transformers": PenEngine(weights_hash="f" * 64)})
    found = check(make_policy(), "vllm", compare=True)
    assert not found.well
    assert "have changed since it was registered" in found.message


def test_a_folder_of_the_message_is_named(tmp_path: Path):
    policy = make_policy()
    Policy.objects.update(path=str(tmp_path))
    assert str(tmp_path) in check(Policy.objects.get(pk=policy.pk)).message
