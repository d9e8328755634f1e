"""What the web process imports stays light, and what runs without Django knows no Django."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"torch", "transformers", "peft", "vllm"}


def imported_by(module: str) -> set[str]:
    """The top-level modules that a fresh process holds after `import module`."""
    code = f"import sys, {module}; print(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "module",
    [
        "generation.engines.values",
        "generation.engines.loading",
        "generation.measures",
        "generation.readability",
        "generation.variety",
        "generation.detectors",
        "generation.demo_writer.recipe",
        "generation.demo_writer.corpus",
    ],
)
def test_it_imports_neither_django_nor_torch(module):
    assert imported_by(module) & {"django", *HEAVY} == set()


def test_the_libraries_of_the_measures_are_loaded_at_first_use():
    assert imported_by("generation.readability") & {"syllapy", "rjieba"} == set()


@pytest.mark.parametrize("module", ["generation.engines.transformers_engine", "generation.demo_writer.build"])
def test_it_imports_torch_and_no_django(module):
    found = imported_by(module)
    assert "torch" in found
    assert "django" not in found


def test_the_rows_and_rules_of_stories_import_no_torch():
    code = (
        "import os, sys, django; os.environ['DJANGO_SETTINGS_MODULE'] = 'config.settings'; django.setup();"
        "import generation.stories, generation.policies, generation.prompts, generation.summaries;"
        "import generation.management.commands.write_stories; print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert HEAVY & set(done.stdout.split()) == set()
