"""What the pages say of settings and commands is what the code does."""

import importlib.util
import re
import subprocess

import pytest

from config.variables import KNOWN, Kind, unknown
from generation.engines.opening import ENGINES
from tests.environment import ROOT

spec = importlib.util.spec_from_file_location("reference", ROOT / "tools" / "reference.py")
assert spec
assert spec.loader
reference = importlib.util.module_from_spec(spec)
spec.loader.exec_module(reference)


@pytest.mark.parametrize("page", ["settings.md", "commands.md"])
def test_the_pages_are_as_the_code_says(page: str) -> None:
    ((path, text),) = [(path, text) for path, text in reference.pages() if path.name == page]
    assert path.read_text() == text, "run: make reference"


def test_every_argument_of_every_command_is_explained() -> None:
    bare = re.findall(r"^\| `.*\|  \|$", reference.commands(), re.MULTILINE)
    assert bare == []


def test_every_variable_that_is_named_anywhere_is_declared() -> None:
    named = "git grep -hoIE STORYLOOP_[A-Z0-9_]+ -- :(exclude,glob)tests/*/** :!locale"
    found = subprocess.run(named.split(), cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert len(found) > 200
    assert unknown(found) == {}


def test_every_variable_that_is_declared_is_read() -> None:
    sources = [path for name in ("config", "tests") for path in (ROOT / name).rglob("*.py")] + [*ROOT.glob("compose*")]
    code = "".join(path.read_text() for path in sources if path.name not in ("variables.py", "test_reference.py"))
    assert [name for name in KNOWN if f'"{name}"' not in code and "${" + name not in code] == []


def test_the_engines_are_those_that_there_are() -> None:
    assert KNOWN["STORYLOOP_ENGINE"].choices == ENGINES


def test_a_default_is_one_that_the_variable_may_have() -> None:
    for one in KNOWN.values():
        if one.kind is Kind.NUMBER and one.default is not None:
            assert one.at_least <= int(one.default) <= (one.at_most or int(one.default)), one.name
        if one.kind is Kind.CHOICE and one.default is not None:
            assert one.default in one.choices, one.name
        assert one.default is not None or one.instead, one.name


def test_what_is_misspelt_is_known_by_its_neighbour() -> None:
    assert unknown(["STORYLOOP_HOST", "STORYLOOP_URL", "STORYLOOP_SECRET_KEY_FILE", "HOME"]) == {
        "STORYLOOP_HOST": "STORYLOOP_HOSTS"
    }


def test_no_link_of_a_page_leads_nowhere() -> None:
    pages = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in pages.split():
        for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)]*))?\)", (ROOT / name).read_text()):
            page = (ROOT / name).parent / target if target else ROOT / name
            assert page.exists(), f"{name}: {target}"
            heads = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE) if anchor else []
            known = {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}
            assert not anchor or anchor in known, f"{name}: {target}#{anchor}"


def test_every_target_of_make_is_in_the_page() -> None:
    targets = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    page = (ROOT / "docs" / "commands.md").read_text()
    assert [name for name in targets if f"`make {name}`" not in page and name != "help"] == []
