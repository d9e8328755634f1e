"""python -m training.dpo.merge MODEL ADAPTER OUT: full weights from a model and its PEFT adapter."""

import os
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")


def merge(model: Path, adapter: Path, out: Path) -> None:
    """Write the merged model and its tokenizer to `out`, whole or not at all. Raises EngineError."""
    from generation.engines.loading import load_model, load_tokenizer
    from training.dpo.checkpoint import replacing

    with replacing(out) as temporary:
        load_model(model, adapter, exact=True).save_pretrained(temporary, safe_serialization=True)
        load_tokenizer(model).save_pretrained(temporary)


def main(argv: list[str] | None = None) -> int:
    from generation.engines.values import EngineError

    given = sys.argv[1:] if argv is None else argv
    if len(given) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        merge(*map(Path, given))
    except EngineError as error:
        print(f"training.dpo.merge: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
