"""Write what docs/settings.md and docs/commands.md say of settings and commands, from the code.

Usage: .venv/bin/python tools/reference.py. What stands outside of the marked lines is written by hand, and stays.
"""

import argparse
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
APPS = ("config", "generation", "annotate", "training")
BEGIN, END = "<!-- made by `make reference`: begin -->", "<!-- made by `make reference`: end -->"

sys.path.insert(0, str(ROOT))

from config.variables import GROUPS, Kind, Variable  # noqa: E402


def settings() -> str:
    """A table for each group of config/variables.py."""
    return "\n".join(line for title, variables in GROUPS.items() for line in (f"## {title}\n", *_table(variables), ""))


def _table(variables: tuple[Variable, ...]) -> Iterator[str]:
    yield "| variable | is | default | means |"
    yield "|---|---|---|---|"
    for one in variables:
        yield _row(f"`{one.name}`", _kind(one), one.instead or _code(one.default), _linked(one.help))


def _kind(one: Variable) -> str:
    if one.kind is Kind.CHOICE:
        return ", ".join(f"`{choice}`" for choice in one.choices)
    if one.kind is Kind.NUMBER:
        return f"{one.kind}, {one.at_least} or more" if one.at_most is None else f"{one.at_least} to {one.at_most}"
    if one.kind is Kind.SECRET and one.at_least:
        return f"{one.kind}, {one.at_least} characters or more"
    return str(one.kind)


def commands() -> str:
    """A heading for each of our commands: what it does and what it takes."""
    from django.core.management import get_commands, load_command_class
    from django.core.management.base import BaseCommand

    ours = sorted(name for name, app in get_commands().items() if app in APPS)
    everybody = {action.dest for action in BaseCommand().create_parser("manage.py", "any")._actions}
    lines: list[str] = []
    for name in ours:
        parser = load_command_class(get_commands()[name], name).create_parser("manage.py", name)
        lines += [f"### {name}\n", *_command(parser, everybody), ""]
    return "\n".join(lines)


def _command(parser: argparse.ArgumentParser, everybody: set[str]) -> Iterator[str]:
    yield _linked(" ".join((parser.description or "").split())) + "\n"
    own = [action for action in parser._actions if action.dest not in everybody]
    if not own:
        return
    yield "| argument | default | means |"
    yield "|---|---|---|"
    formatter = parser._get_formatter()
    for action in own:
        means = re.sub(r" \(default: [^)]*\)", "", formatter._expand_help(action) if action.help else "")
        if action.choices and action.metavar is None:
            means += (": " if means else "") + ", ".join(f"`{choice}`" for choice in action.choices)
        yield _row(_called(action), "" if action.nargs == 0 else _code(action.default), _linked(means))


def _called(action: argparse.Action) -> str:
    """As it is typed; in brackets where it may be left out."""
    option = next(iter(action.option_strings), "")
    value = action.metavar if isinstance(action.metavar, str) else (option.strip("-") or action.dest).upper()
    if not option:
        return f"`{value}`" if action.required else f"`[{value}]`"
    typed = option if action.nargs == 0 else f"{option} {value}"
    return f"`{typed}`" + (" (must be given)" if action.required else "")


def _code(value: object) -> str:
    if isinstance(value, bool):
        value = str(value).lower()
    if isinstance(value, list):
        value = " ".join(map(str, value))
    return "" if value is None or value == "" else f"`{value}`"


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _linked(text: str) -> str:
    """(docs/training.md) as a link of a page that lies in docs/."""
    return re.sub(r"\bdocs/([a-z-]+)\.md\b", r"[\1](\1.md)", text)


def renewed(page: str, made: str) -> str:
    """`page` with `made` between its marked lines."""
    before, begin, rest = page.partition(BEGIN)
    _old, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError("The lines that mark what is made are not there.")
    return f"{before}{BEGIN}\n\n{made}\n{END}{after}"


def pages() -> Iterator[tuple[Path, str]]:
    """(page, how it should read) of each."""
    for name, make in (("settings", settings), ("commands", commands)):
        path = ROOT / "docs" / f"{name}.md"
        yield path, renewed(path.read_text(), make())


def main() -> None:
    for name in [name for name in os.environ if name.startswith("STORYLOOP_")]:
        del os.environ[name]  # defaults are everybody's, not this machine's
    os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
    import django

    django.setup()
    for path, text in pages():
        changed = text != path.read_text()
        path.write_text(text)
        print(f"{path.relative_to(ROOT)}: {'written anew' if changed else 'as it was'}")


if __name__ == "__main__":
    main()
