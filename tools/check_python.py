"""One clear line if this Python cannot run Storyloop. Runs on any Python 3."""

import importlib.util
import sys

if importlib.util.find_spec("ensurepip") is None or importlib.util.find_spec("venv") is None:
    sys.exit("This Python cannot make virtual environments. Run: apt install python3-venv")
