"""Stories and reasons are text, never markup: nothing in templates or code takes the escaping off."""

import ast
import re
from pathlib import Path

import pytest

from tests.config.test_house import SOURCES
from tests.environment import ROOT

TEMPLATES = list((ROOT / "templates").rglob("*.*"))
UNESCAPED = ("|safe", "| safe", "safeseq", "autoescape", "|unordered_list", "{% debug", "javascript:", "srcdoc")
INLINE = re.compile(r"<(style|base|iframe|object|embed)\b|\s(style|on[a-z]+)\s*=|\bhx-(on|vals=.js:)", re.IGNORECASE)
SCRIPT = re.compile(r"<script\b([^>]*)>(.*?)</script>", re.IGNORECASE | re.DOTALL)
# a story goes by the pen of a template, escaped; code that writes markup itself is looked at here, by name
MARKUP = {"mark_safe", "format_html", "format_html_join", "SafeString", "SafeText", "html_safe"}
DANGEROUS = {"eval", "exec", "compile", "__import__"}


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_template_escapes_all_and_holds_no_script_of_its_own(path: Path) -> None:
    text = path.read_text()
    assert [word for word in UNESCAPED if word in text] == []
    assert INLINE.findall(text) == []
    # what scripts are given stands in data-attributes, escaped like text: there is no script to break out of
    assert [found for found in SCRIPT.findall(text) if "src=" not in found[0] or found[1].strip()] == []


def names(tree: ast.AST) -> set[str]:
    """Every name that is imported, called as a function or taken from a module."""
    found = {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    found |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return found | {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_code_makes_markup_or_runs_what_it_is_given(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert names(tree) & MARKUP == set()
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    assert called & DANGEROUS == set()
    assert names(tree) & {"pickle", "marshal", "shelve", "yaml"} == set()


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_models_bring_no_code_and_no_shell_is_started(path: Path) -> None:
    """trust_remote_code is never on, weights are never unpickled, and no command is a line of shell."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.keyword) and node.arg in ("trust_remote_code", "shell"):
            assert isinstance(node.value, ast.Constant)
            assert node.value.value is False
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            called = ast.unparse(node.func)
            assert called not in ("torch.load", "os.system", "os.popen", "subprocess.getoutput"), called
