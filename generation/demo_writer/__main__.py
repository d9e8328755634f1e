"""python -m generation.demo_writer DIRECTORY: build the demo writer there, with a progress bar."""

import os
import sys
from pathlib import Path

from tqdm import tqdm

os.environ.setdefault("HF_HUB_OFFLINE", "1")


def main(argv: list[str] | None = None) -> int:
    given = sys.argv[1:] if argv is None else argv
    if len(given) != 1:
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
        build(Path(given[0]), on_step=on_step)
    return 0


if __name__ == "__main__":
    sys.exit(main())
