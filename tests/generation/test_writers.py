"""What a policy is written with: its merged weights, or its rounds' adapters on the base of all."""

import shutil
from pathlib import Path

import pytest

from generation.engines.adapters import CONFIG, WEIGHTS, read_config
from generation.engines.values import Weights, weights_hash
from generation.models import Policy
from generation.policies import register_policy
from generation.writers import MOST_RANK, Writing, announce_adapter, engine_settings, server_weights, writing_of
from tests.generation.lora import logits, make_adapter, merged
from tests.models import make_tiny_model

pytestmark = pytest.mark.django_db
VLLM = ["vllm", "vllm-server"]


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path, settings) -> None:
    settings.MODEL_DIR = tmp_path / "models"


@pytest.fixture
def base(tiny_model) -> Policy:
    return register_policy(name="base", path=tiny_model)


def next_round(parent: Policy, folder: Path, **config: object) -> Policy:
    """The policy of a round with LoRA, as the trainer leaves it."""
    number = Policy.objects.count()
    adapter = make_adapter(Path(parent.path), folder / f"round-{number}", seed=number, **config)
    full = merged(Path(parent.path), adapter, folder / f"round-{number}-merged")
    return register_policy(name=f"round-{number}", path=full, adapter_path=adapter, parent=parent)


@pytest.fixture
def first(base, tmp_path) -> Policy:
    return next_round(base, tmp_path)


@pytest.fixture
def second(first, tmp_path) -> Policy:
    return next_round(first, tmp_path)


def is_merged(policy: Policy, engine: str = "vllm") -> bool:
    merged = Weights(Path(policy.path), None, policy.weights_hash)
    return writing_of(policy, engine) == Writing(merged, frozenset({policy.weights_hash}))


def test_transformers_writes_with_the_merged_weights(second):
    assert is_merged(second, "transformers")


@pytest.mark.parametrize("engine", VLLM)
def test_a_base_model_is_written_with_as_it_is(base, engine):
    assert is_merged(base, engine)


@pytest.mark.parametrize("engine", VLLM)
def test_the_first_round_is_its_adapter_on_the_base(base, first, engine):
    expected = Weights(Path(base.path), Path(first.adapter_path), base.weights_hash)
    assert writing_of(first, engine).weights == expected


@pytest.mark.parametrize("engine", VLLM)
def test_a_later_round_is_one_adapter_on_the_same_base(base, second, engine):
    weights = writing_of(second, engine).weights
    assert weights.directory == Path(base.path)
    assert (logits(weights.directory, weights.adapter) - logits(Path(second.path))).abs().max() < 1e-5


def test_accepted_is_what_an_engine_reports_that_has_loaded_base_and_adapter(first, second):
    for policy in (first, second):
        writing = writing_of(policy, "vllm")
        assert writing.accepted == {writing.weights.identity()}


def test_a_stack_is_made_once_for_a_policy(second):
    one, other = writing_of(second, "vllm").weights, writing_of(second, "vllm-server").weights
    assert one.adapter == other.adapter


def test_the_engine_of_the_settings_decides(second, settings):
    settings.ENGINE = "vllm"
    assert not is_merged(second, "")
    settings.ENGINE = "transformers"
    assert is_merged(second, "")


def test_a_round_with_full_weights_is_a_base_of_its_own(base, tmp_path):
    full = register_policy(name="full", path=make_tiny_model(tmp_path / "full", seed=5), parent=base)
    after = next_round(full, tmp_path)
    assert is_merged(full)
    assert writing_of(after, "vllm").weights == Weights(Path(full.path), Path(after.adapter_path), full.weights_hash)


# --- back to the merged weights ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG])
def test_an_adapter_that_lacks_a_file_is_not_used(first, second, name):
    (Path(first.adapter_path) / name).unlink()
    assert is_merged(second)


def test_an_adapter_that_is_gone_is_not_used(first, second):
    shutil.rmtree(first.adapter_path)
    assert is_merged(second)


def test_an_adapter_whose_weights_have_changed_is_not_used(first, second, tiny_model, tmp_path):
    other = make_adapter(tiny_model, tmp_path / "other", seed=9)
    shutil.copy(other / WEIGHTS, Path(first.adapter_path) / WEIGHTS)
    assert is_merged(second)


def test_an_adapter_whose_scale_has_changed_is_not_used(first, second):
    """Twice the alpha is twice the update: other weights, though its safetensors file is the same."""
    config = Path(first.adapter_path) / CONFIG
    config.write_text(config.read_text().replace('"lora_alpha": 8', '"lora_alpha": 16'))
    assert read_config(config.parent)["lora_alpha"] == 16
    assert is_merged(second)


def test_an_adapter_from_before_adapters_were_hashed_is_not_used(first, second):
    Policy.objects.filter(pk=first.pk).update(adapter_hash="")
    assert is_merged(Policy.objects.get(pk=second.pk))


def test_adapters_that_are_too_large_together_are_not_used(first, tmp_path):
    assert read_config(Path(first.adapter_path))["r"] == 4
    largest = next_round(first, tmp_path, r=MOST_RANK - 4)
    assert not is_merged(largest)
    assert is_merged(next_round(largest, tmp_path, r=1))


def test_an_adapter_that_cannot_be_added_to_others_is_not_used(first, tmp_path):
    """Its merged weights are there: nobody has to do anything."""
    assert is_merged(next_round(first, tmp_path, use_dora=True))


def test_a_policy_whose_parent_is_unknown_is_written_with_as_it_is(first):
    Policy.objects.filter(pk=first.pk).update(parent=None)
    assert is_merged(Policy.objects.get(pk=first.pk))


# --- servers, and settings ---------------------------------------------------------------------------------


def test_a_server_is_started_with_the_base_of_all_rounds(base, second):
    assert server_weights(second) == server_weights(base) == Path(base.path)


def test_a_server_for_a_policy_without_its_adapters_has_its_merged_weights(first, second):
    shutil.rmtree(first.adapter_path)
    assert server_weights(second) == Path(second.path)


def test_an_engine_without_servers_is_told_of_no_adapter(base, tiny_model, tmp_path):
    assert announce_adapter(parent=base, adapter=make_adapter(tiny_model, tmp_path / "new")) == 0


def test_a_server_that_is_away_is_no_fault_of_the_round(base, tiny_model, tmp_path, settings):
    settings.ENGINE, settings.VLLM_URLS = "vllm-server", ["http://127.0.0.1:9"]
    assert announce_adapter(parent=base, adapter=make_adapter(tiny_model, tmp_path / "new")) == 0


def test_the_engines_settings_are_those_of_the_environment(settings, tmp_path):
    settings.ENGINE, settings.VLLM_URLS, settings.VLLM_API_KEY = "vllm-server", ["http://a:1", "http://b:2"], "secret"
    settings.VLLM_PYTHON, settings.VLLM_GPU_MEMORY, settings.VLLM_MAX_MODEL_LEN = tmp_path, 45, 900
    settings.VLLM_PATIENCE = 7
    found = engine_settings()
    assert (found.name, found.urls, found.api_key) == ("vllm-server", ("http://a:1", "http://b:2"), "secret")
    assert (found.vllm.python, found.vllm.gpu_memory, found.vllm.max_model_len) == (tmp_path, 0.45, 900)
    assert (found.patience, found.scratch) == (7.0, settings.MODEL_DIR / "adapters")
    assert engine_settings("vllm").name == "vllm"


def test_the_hash_of_an_adapter_on_a_base_is_neither_ones(base, first):
    (accepted,) = writing_of(first, "vllm").accepted
    assert accepted not in {base.weights_hash, first.weights_hash, weights_hash(Path(first.adapter_path))}
