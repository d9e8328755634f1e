"""Print the project's dependencies from pyproject.toml, a line each; with an extra's name, that extra's."""

import sys
import tomllib
from pathlib import Path


def main() -> None:
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
    chosen = project["optional-dependencies"][sys.argv[1]] if sys.argv[1:] else project["dependencies"]
    print("\n".join(chosen))


if __name__ == "__main__":
    main()
