"""manage.py begin: a new installation gets the model that it starts from."""

from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from annotate.models import Example
from generation.models import Policy

pytestmark = pytest.mark.django_db


def test_the_base_model_is_in_use_and_there_is_something_to_practise(tiny_model: Path, settings, capsys) -> None:
    settings.BASE_MODEL = str(tiny_model)
    call_command("begin")
    assert Policy.objects.current().path == str(tiny_model)
    assert Example.objects.exists()
    call_command("begin")
    assert Policy.objects.count() == 1
    assert "is in use already" in capsys.readouterr().out


@pytest.mark.parametrize(("model", "said"), [("", "is not set"), ("/nowhere", "is not a directory")])
def test_without_a_model_it_says_what_to_name(settings, model: str, said: str) -> None:
    settings.BASE_MODEL = model
    with pytest.raises(CommandError, match=said):
        call_command("begin")
    assert not Policy.objects.exists()
