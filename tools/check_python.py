"""One clear line if this Python cannot run Storyloop. Runs on any Python 3."""

import importlib.util
import sys

if sys.version_info < (3, 11):
    sys.exit(
        "Storyloop needs Python 3.11 or newer; this is %d.%d. Install one and run: make demo PYTHON=python3.11"
        % sys.version_info[:2]
    )
if importlib.util.find_spec("ensurepip") is None or importlib.util.find_spec("venv") is None:
    sys.exit("This Python cannot make virtual environments. Run: apt install python3-venv")
