"""How the demo writer is made. Imports nothing heavy: the launcher asks for the key."""

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Recipe:
    """How the writer is made; a change gives a new writer beside the old one."""

    stories: int = 8_000
    vocabulary: int = 1_536
    hidden: int = 128
    layers: int = 4
    heads: int = 4  # of 32 each: vLLM's CPU attention has no smaller head
    steps: int = 380
    batch: int = 16
    matrix_rate: float = 0.03  # Muon's, for the hidden matrices: half the steps that AdamW needs
    learning_rate: float = 6e-3  # AdamW's, for embeddings and norms
    initial_spread: float = 0.08  # with transformers' 0.02 it never learns to repeat the hero's name
    warm_up: float = 0.15  # share of the steps; a half cosine to zero follows
    wide: bool = False  # the case study's corpus: see corpus.py
    seed: int = 15

    def key(self) -> str:
        """Identifies recipe and corpus together: 12 hex digits."""
        names = ("corpus.py", "grammar_en.py", "grammar_zh.py", "wider_en.py", "wider_zh.py", "build.py")
        sources = [Path(__file__).with_name(name).read_bytes() for name in names]
        text = repr(sorted(asdict(self).items())).encode()
        return hashlib.sha256(b"\0".join([text, *sources])).hexdigest()[:12]


DEMO = Recipe()
CASE_STUDY = Recipe(wide=True, stories=12_000, steps=1_000)
