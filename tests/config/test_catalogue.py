"""The Chinese catalogue: complete, sound, compiled, and in step with what the pages and the code mark."""

import ast
import io
import re
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog, Message
from babel.messages.extract import extract_python
from babel.messages.mofile import read_mo, write_mo
from babel.messages.pofile import read_po
from django.template import Context, Template
from django.utils.translation import gettext, ngettext, override
from django.utils.translation.template import templatize

ROOT = Path(__file__).resolve().parent.parent.parent
TRANSLATE = "write it into locale/zh_Hans/LC_MESSAGES/django.po with its Chinese, then: make messages (CONTRIBUTING.md)"
PO = ROOT / "locale" / "zh_Hans" / "LC_MESSAGES" / "django.po"
MO = PO.with_suffix(".mo")
APPS = ("config", "generation", "annotate", "training")

KEYWORDS = {
    "_": None,
    "gettext": None,
    "gettext_lazy": None,
    "gettext_noop": None,
    "ngettext": (1, 2),
    "ngettext_lazy": (1, 2),
}
LITERAL = r"""u?("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')"""
MARKED = re.compile(rf"\b(?:_|gettext|ngettext)\(\s*{LITERAL}(?:\s*,\s*{LITERAL})?", re.DOTALL)
PLACEHOLDER = re.compile(r"%\(\w+\)[a-z]|%.?")  # %(name)s, %%, and any other use of %


def read_catalogue() -> Catalog:
    with PO.open("rb") as file:
        return read_po(file, locale="zh_Hans", abort_invalid=True)


def messages() -> list[Message]:
    return [message for message in read_catalogue() if message.id]


def forms(text: str | tuple[str, ...] | list[str]) -> tuple[str, ...]:
    """A message's singular and plural, or the one form that it has."""
    return (text,) if isinstance(text, str) else tuple(text)


def texts(catalogue: Catalog) -> dict[tuple[str, ...], tuple[str, ...]]:
    return {forms(m.id): forms(m.string) for m in catalogue if m.id}


def placeholders(text: str) -> list[str]:
    return sorted(PLACEHOLDER.findall(text))


def marked_in_template(source: str) -> set[tuple[str, ...]]:
    """What makemessages would take from a template: Django itself turns the tags into calls."""
    return {tuple(ast.literal_eval(g) for g in m.groups() if g) for m in MARKED.finditer(templatize(source))}


def marked_in_python(path: Path) -> set[tuple[str, ...]]:
    with path.open("rb") as file:
        found = list(extract_python(file, list(KEYWORDS), (), {}))
    return {
        tuple(text for text in forms(given)[: len(KEYWORDS[function] or (1,))] if text)
        for _line, function, given, _comments in found
    }


def template_files() -> list[Path]:
    return sorted((ROOT / "templates").rglob("*.html"))


def python_files() -> list[Path]:
    return sorted(p for app in APPS for p in (ROOT / app).rglob("*.py") if "migrations" not in p.parts)


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_every_message_has_a_translation() -> None:
    empty = [m.id for m in messages() if not all(forms(m.string))]
    assert messages()
    assert empty == []


def test_no_message_is_fuzzy() -> None:
    catalogue = read_catalogue()
    assert not catalogue.fuzzy
    assert [m.id for m in catalogue if m.id and m.fuzzy] == []


def test_the_header_names_simplified_chinese_with_one_plural_form() -> None:
    catalogue = read_catalogue()
    header = dict(catalogue.mime_headers)
    assert header["Language"] == "zh_Hans"
    assert catalogue.charset == "utf-8"
    assert catalogue.num_plurals == 1


@pytest.mark.parametrize("message", messages(), ids=lambda m: forms(m.id)[0][:40])
def test_a_translation_has_exactly_the_placeholders_of_its_message(message: Message) -> None:
    wanted = placeholders(forms(message.id)[-1])
    assert [placeholders(text) for text in forms(message.string)] == [wanted] * len(forms(message.string))


def test_the_compiled_catalogue_is_what_compiling_the_source_gives_now() -> None:
    compiled = io.BytesIO()
    write_mo(compiled, read_catalogue())
    compiled.seek(0)
    with MO.open("rb") as file:
        committed = read_mo(file)
    assert texts(committed) == texts(read_mo(compiled)), "compile it again: make messages"
    assert committed.num_plurals == 1


@pytest.mark.parametrize("path", template_files(), ids=relative)
def test_every_string_marked_in_a_template_is_in_the_catalogue(path: Path) -> None:
    assert marked_in_template(path.read_text(encoding="utf-8")) - set(texts(read_catalogue())) == set(), TRANSLATE


def test_every_string_marked_in_the_code_is_in_the_catalogue() -> None:
    known = set(texts(read_catalogue()))
    missing = {relative(path): marked_in_python(path) - known for path in python_files()}
    assert {path: found for path, found in missing.items() if found} == {}, TRANSLATE


def test_marked_strings_are_found_in_every_kind_of_template_tag() -> None:
    source = """{% load i18n %}
        {% translate "It's 95 % done" %}<img alt="{% translate 'single' %}">{% trans "old tag" as kept %}
        {% blocktranslate with a=b.c %}Round {{ a }}{% endblocktranslate %}
        {% blocktranslate count n=m %}{{ n }} story{% plural %}{{ n }} stories{% endblocktranslate %}
        {{ _("filter") }} not marked"""
    assert marked_in_template(source) == {
        ("It's 95 %% done",),
        ("single",),
        ("old tag",),
        ("Round %(a)s",),
        ("%(n)s story", "%(n)s stories"),
        ("filter",),
    }


def test_marked_strings_are_found_in_python(tmp_path: Path) -> None:
    path = tmp_path / "some.py"
    path.write_text(
        'x = _("one")\ny = gettext_lazy("two " "parts") % {"a": 1}\nz = ngettext("a", "b", n)\nw = f("no")\n'
    )
    assert marked_in_python(path) == {("one",), ("two parts",), ("a", "b")}


def test_the_pages_speak_chinese_when_asked() -> None:
    page = Template(
        '{% load i18n %}{% translate "Choose the best story first." %}'
        "{% blocktranslate with number=3 %}Round {{ number }}{% endblocktranslate %}"
    )
    with override("zh-hans"):
        assert gettext("Which story is best?") == "哪个故事最好？"
        assert page.render(Context()) == "请先选出最好的故事。第 3 轮"


@pytest.mark.parametrize("count", [0, 1, 2])
def test_chinese_has_one_form_for_any_number(count: int) -> None:
    one, many = (
        "You have judged %(n)s comparison so far. Thank you!",
        "You have judged %(n)s comparisons so far. Thank you!",
    )
    with override("zh-hans"):
        assert ngettext(one, many, count) == "到目前为止，您已评判 %(n)s 组故事，谢谢您！"


def test_a_percent_sign_is_shown_once_on_the_chinese_page() -> None:
    caption = (
        "Win rate: share of blind judgements that prefer the new policy to the one before, "
        "ties counting half, with a 95 % interval."
    )
    with override("zh-hans"):
        shown = Template(f'{{% load i18n %}}{{% translate "{caption}" %}}').render(Context())
    assert shown == "胜率：盲评中认为新策略优于上一个策略的比例，平局按一半计，附 95% 区间。"
