"""The door of an installed Storyloop: the command `storyloop`, which does what manage.py does in a checkout.

The packages (config, training, annotate, generation) lie beside this file in the wheel, in one folder of
site-packages: their names are too common to stand there by themselves (docs/adr/0018). This puts that folder
onto the path of this process, and of nobody else's.
"""

import os
import runpy
import secrets
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
HOME = HERE if (HERE / "manage.py").exists() else HERE.parent  # in a checkout manage.py lies one folder above
ASKING = ("help", "--help", "-h")


def main() -> None:
    """`storyloop COMMAND`, as manage.py; `storyloop -m MODULE`, as python -m, for training.dpo and granian."""
    sys.path.insert(0, str(HOME))
    arguments = sys.argv[1:]
    if arguments[:1] == ["--version"]:
        from generation.version import VERSION

        print(f"Storyloop {VERSION}")
    elif arguments[:1] == ["-m"] and arguments[1:]:
        _for_children()
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        from manage import main as manage

        sys.argv[0] = "storyloop"
        if not arguments or any(word in ASKING for word in arguments):
            _leave_no_trace()
        elif HOME == HERE and not os.environ.get("STORYLOOP_VAR") and not Path("var").exists():
            print(f"storyloop: all is kept in {Path('var').absolute()} (STORYLOOP_VAR names another)", file=sys.stderr)
        manage()


def _for_children() -> None:
    """A server's processes import config.wsgi, too."""
    known = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(HOME), *([known] if known else [])])


def _leave_no_trace() -> None:
    """Who asks for help in some directory wants no database there."""
    if not any(os.environ.get(name) for name in ("STORYLOOP_SECRET_KEY", "STORYLOOP_SECRET_KEY_FILE")):
        os.environ["STORYLOOP_SECRET_KEY"] = secrets.token_urlsafe(50)
    if not any(os.environ.get(name) for name in ("DATABASE_URL", "DATABASE_URL_FILE")):
        os.environ["DATABASE_URL"] = "postgres:///nobody-asks-it"
