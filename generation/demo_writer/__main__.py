"""python -m generation.demo_writer DIRECTORY [--case-study]: build the demo writer there, with a progress bar.

--case-study: the case study's instead (recipe.py)."""

import os
import sys
from pathlib import Path

from tqdm import tqdm

from generation.demo_writer.recipe import CASE_STUDY, DEMO

os.environ.setdefault("HF_HUB_OFFLINE", "1")


def main(argv: list[str] | None = None) -> int:
    given = sys.argv[1:] if argv is None else argv
    directory, *options = given or [""]
    if not directory or options not in ([], ["--case-study"]):
        print(__doc__, file=sys.stderr)
        return 2
    with tqdm(desc="training the demo writer", unit="step") as bar:

        def on_step(step: int, total: int, loss: float) -> None:
            bar.total = total
            bar.update()
            bar.set_postfix(loss=f"{loss:.2f}", refresh=False)

        from transformers.utils import logging

        from generation.demo_writer.build import build

        logging.disable_progress_bar()
        build(Path(directory), CASE_STUDY if options else DEMO, on_step)
    return 0


if __name__ == "__main__":
    sys.exit(main())
