"""One clear line if this machine cannot hold Storyloop. Runs on any Python 3."""

import importlib.util
import os
import shutil
import sys

NEEDED = 3 * 2**30

if sys.version_info < (3, 11):
    sys.exit(
        "Storyloop needs Python 3.11 or newer; this is %d.%d. Install one and run: make demo PYTHON=python3.11"
        % sys.version_info[:2]
    )
if importlib.util.find_spec("ensurepip") is None or importlib.util.find_spec("venv") is None:
    sys.exit("This Python cannot make virtual environments. Run: apt install python3-venv")
if not os.path.exists(".venv/bin/python") and shutil.disk_usage(".").free < NEEDED:
    sys.exit(
        "Only %d MB are free here; the packages need about %d. Free some space and run the same command again."
        % (shutil.disk_usage(".").free // 2**20, NEEDED // 2**20)
    )
