"""python -m training.dpo.merge MODEL ADAPTER OUT: full weights from a model and its PEFT adapter."""

import os
import sys
from pathlib import Path

from generation.engines.faults import DISK_FULL, free_in, is_disk_full, is_out_of_memory
from generation.engines.processes import log_what_fits
from training.dpo.settings import OUT_OF_MEMORY

os.environ.setdefault("HF_HUB_OFFLINE", "1")


def merge(model: Path, adapter: Path, out: Path) -> None:
    """Write the merged model and its tokenizer to `out`, whole or not at all. Raises EngineError."""
    from generation.engines.loading import load_model, load_tokenizer
    from training.dpo.checkpoint import replacing

    with replacing(out) as temporary:
        load_model(model, adapter, exact=True).save_pretrained(temporary, safe_serialization=True)
        load_tokenizer(model).save_pretrained(temporary)


def main(argv: list[str] | None = None) -> int:
    from safetensors import SafetensorError

    from generation.engines.values import EngineError

    given = sys.argv[1:] if argv is None else argv
    if len(given) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    out = Path(given[2])
    try:
        merge(*map(Path, given))
    except Exception as error:
        if is_disk_full(error):
            return _end(
                DISK_FULL, f"The disk of {out} is full: {free_in(out)} are free. Free some space, and merge again."
            )
        if is_out_of_memory(error):
            return _end(OUT_OF_MEMORY, "Out of memory. Let nothing else use it, and merge again.")
        if not isinstance(error, EngineError | OSError | SafetensorError):
            raise
        return _end(2, str(error))
    return 0


def _end(status: int, message: str) -> int:
    print(f"training.dpo.merge: {message}", file=sys.stderr)
    return status


if __name__ == "__main__":
    log_what_fits()
    sys.exit(main())
