"""A directory becomes a policy only when it can be loaded."""

import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from django.db import connection, transaction
from safetensors.numpy import save_file

from generation.engines.values import EngineError, adapter_hash, weights_hash
from generation.models import Policy
from generation.policies import make_current, register_policy
from tests.factories import make_policy
from tests.models import make_tiny_model
from tests.threads import wait_until_blocked

pytestmark = pytest.mark.django_db


def test_a_registered_policy_keeps_the_hash_of_its_weights(tiny_model):
    policy = register_policy(name="base", path=tiny_model)
    assert (policy.path, policy.weights_hash) == (str(tiny_model), weights_hash(tiny_model))


def make_adapter(directory: Path) -> Path:
    """What passes for one when nobody loads it."""
    directory.mkdir()
    save_file({"a": np.ones(3, np.float32)}, directory / "adapter_model.safetensors")
    (directory / "adapter_config.json").write_text("{}")
    return directory


def test_a_rounds_result_keeps_its_parent_and_its_adapter(tiny_model, tmp_path):
    base = register_policy(name="base", path=tiny_model)
    adapter = make_adapter(tmp_path / "adapter")
    result = register_policy(name="round-1", path=tiny_model, adapter_path=adapter, parent=base)
    assert (result.parent, result.adapter_path) == (base, str(adapter))
    assert result.adapter_hash == adapter_hash(adapter)


def test_a_policy_without_an_adapter_has_no_hash_of_one(tiny_model):
    assert register_policy(name="base", path=tiny_model).adapter_hash == ""


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_config.json"])
def test_an_adapter_that_is_not_whole_becomes_no_policy(tiny_model, tmp_path, name):
    (make_adapter(tmp_path / "adapter") / name).unlink()
    with pytest.raises(EngineError, match=r"holds no"):
        register_policy(name="round-1", path=tiny_model, adapter_path=tmp_path / "adapter")
    assert not Policy.objects.exists()


def test_the_first_policy_is_current(tiny_model):
    assert register_policy(name="base", path=tiny_model) == Policy.objects.current()


def test_a_later_policy_is_not_current_by_itself(tiny_model):
    base = register_policy(name="base", path=tiny_model)
    register_policy(name="round-1", path=tiny_model, parent=base)
    assert Policy.objects.current() == base


def test_registering_again_gives_the_policy_that_is_there(tiny_model):
    assert register_policy(name="base", path=tiny_model) == register_policy(name="base", path=tiny_model)


def test_a_known_name_does_not_stand_for_other_weights(tiny_model, tmp_path):
    register_policy(name="base", path=tiny_model)
    other = make_tiny_model(tmp_path / "other", seed=2)
    with pytest.raises(EngineError, match="base"):
        register_policy(name="base", path=other)


def test_a_directory_that_is_no_model_becomes_no_policy(tmp_path):
    with pytest.raises(EngineError, match=r"no config\.json"):
        register_policy(name="base", path=tmp_path)
    assert not Policy.objects.exists()


def test_making_a_policy_current_takes_the_place_of_the_one_before():
    old, new = make_policy(current=True), make_policy()
    make_current(policy=new)
    assert list(Policy.objects.filter(is_current=True)) == [new]
    assert Policy.objects.get(pk=old.pk).is_current is False


def test_a_policy_that_is_current_stays_current():
    policy = make_policy(current=True)
    make_current(policy=policy)
    assert Policy.objects.current() == policy


@pytest.mark.django_db(transaction=True)
def test_of_two_promotions_at_once_the_later_one_holds():
    make_policy(current=True)
    first, second = make_policy(), make_policy()
    faults = []

    def promote_second() -> None:
        try:
            make_current(policy=second)
        except Exception as error:
            faults.append(error)
        finally:
            connection.close()

    other = threading.Thread(target=promote_second)
    with transaction.atomic():
        make_current(policy=first)
        other.start()
        wait_until_blocked()
    other.join()
    assert (faults, Policy.objects.current()) == ([], second)


@pytest.fixture
def moved(tiny_model, tmp_path):
    return shutil.copytree(tiny_model, tmp_path / "moved")


def test_weights_have_the_same_hash_wherever_they_lie(tiny_model, moved):
    assert weights_hash(moved) == weights_hash(tiny_model)


def test_one_changed_byte_changes_the_hash_of_the_weights(tiny_model, moved):
    file = moved / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert weights_hash(moved) != weights_hash(tiny_model)


def test_an_adapter_is_part_of_the_hash(tiny_model, moved):
    assert weights_hash(tiny_model, moved) != weights_hash(tiny_model)
