"""The rules of the house, by measurement and not by memory (docs/adr/0001, DESIGN.md section 3)."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from django.urls import get_resolver

from tests.environment import ROOT

PACKAGES = ("config", "generation", "annotate", "training")
SOURCES = [p for name in PACKAGES for p in (ROOT / name).rglob("*.py") if "migrations" not in p.parts]
TESTS = list((ROOT / "tests").rglob("*.py"))


def test_imports_run_one_way_and_the_trainer_knows_no_django() -> None:
    command = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    "command", ["ruff check .", "ruff format --check .", "mypy config generation annotate training"]
)
def test_lint_format_and_types_are_clean(command: str) -> None:
    program, *arguments = command.split()
    path = Path(sys.executable).with_name(program)
    done = subprocess.run([path, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_web_process_imports_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys; import config.wsgi; from django.urls import get_resolver; get_resolver().url_patterns\n"
        "import training.tasks\n"
        "print({'torch', 'transformers', 'vllm', 'peft'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_file_is_longer_than_400_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400


@pytest.mark.parametrize("path", SOURCES + TESTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_function_is_longer_than_60_lines(path: Path) -> None:
    functions = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.FunctionDef)]
    assert [f.name for f in functions if (f.end_lineno or 0) - f.lineno + 1 > 60] == []


def test_every_urls_name_is_its_views_name() -> None:
    ours = [p for p in _patterns(get_resolver()) if ".views" in p.callback.__module__]
    ours = [p for p in ours if p.callback.__module__.split(".")[0] in PACKAGES]
    assert [p.name for p in ours if p.name != p.callback.__name__] == []


def test_no_template_asks_another_host_or_holds_script_or_style() -> None:
    for path in (ROOT / "templates").rglob("*.html"):
        text = path.read_text()
        for forbidden in ("http://", "https://", "<style", " style=", " onclick", "|safe", "autoescape off"):
            assert forbidden not in text, f"{path}: {forbidden}"


def test_the_migrations_match_the_models(db: None) -> None:
    from django.core.management import call_command

    call_command("makemigrations", "--check", "--dry-run", verbosity=0)


def _patterns(resolver):
    for pattern in resolver.url_patterns:
        yield from _patterns(pattern) if hasattr(pattern, "url_patterns") else (pattern,)
