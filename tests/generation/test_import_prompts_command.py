"""manage.py import_prompts FILE"""

import json
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from generation.models import Prompt

pytestmark = pytest.mark.django_db


@pytest.fixture
def file(tmp_path):
    return tmp_path / "prompts.jsonl"


def row(text: str, language: str = "en") -> str:
    return json.dumps(
        {"text": text, "language": language, "theme": "courage", "story_type": "fable", "age_band": "5-6"}
    )


def said(file) -> str:
    out = StringIO()
    call_command("import_prompts", str(file), stdout=out)
    return out.getvalue().strip()


def test_it_says_how_many_prompts_are_new_and_how_many_were_known(file):
    file.write_text(row("One."))
    assert said(file) == "1 prompts imported, 0 were there already."
    file.write_text("\n".join([row("One."), row("Two."), row("Three.")]))
    assert said(file) == "2 prompts imported, 1 were there already."


def test_it_says_every_fault_and_imports_nothing(file):
    file.write_text("\n".join([row("One."), row("Two.", "fr"), "{"]))
    with pytest.raises(CommandError) as refused:
        said(file)
    head, first, second = str(refused.value).splitlines()
    assert head == f"Nothing was imported from {file}:"
    assert first == "line 2: language is 'fr': give en or zh"
    assert second.startswith("line 3: not valid JSON")
    assert not Prompt.objects.exists()


def test_it_shows_twenty_faults_and_counts_the_others(file):
    file.write_text("\n".join(row(f"Fox {i}.", "fr") for i in range(23)))
    with pytest.raises(CommandError) as refused:
        said(file)
    lines = str(refused.value).splitlines()
    assert (len(lines), lines[-2].split(":")[0], lines[-1]) == (22, "line 20", "and 3 more")


def test_a_file_that_is_not_there_is_told(file):
    with pytest.raises(CommandError, match="There is no file"):
        said(file)
