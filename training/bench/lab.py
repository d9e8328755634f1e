"""The model and the data of the benchmark: made on the spot, the same at every call.

A Llama of 6.9 M parameters (vocabulary 4,096) and 512 pairs of made-up words: prompts of about 48
tokens, stories of 150 to 400. Chosen stories use some words more often, rejected ones others, so that
there is something to learn. Ranked data put 2 or 3 pairs' stories behind one prompt.
"""

import itertools
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

Row = dict[str, Any]
START, END = "<|user|>", "<|assistant|>"
ONSETS = [*"bcdfghklmnprstvwz", "st", "tr", "br", "gr", "sh", "th"]
VOWELS = ["a", "e", "i", "o", "u", "ai", "ea", "ou"]
CODAS = ["", "n", "r", "s", "t", "l", "nd", "ck"]
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{% if m['role']=='user' %}<|user|>{{ m['content'] }}{% else %}"
    "<|assistant|>{{ m['content'] }}{{ eos_token }}{% endif %}{% endfor %}{% if add_generation_prompt %}"
    "<|assistant|>{% endif %}"
)


@dataclass(frozen=True)
class Size:
    """Of the model, and of prompts (words) and stories (tokens): (least, most)."""

    hidden: int = 256
    intermediate: int = 704
    layers: int = 6
    heads: int = 4
    kv_heads: int = 4
    vocabulary: int = 4096
    positions: int = 1024
    prompt_words: tuple[int, int] = (30, 42)
    story_tokens: tuple[int, int] = (150, 400)


SMALL = Size()
# 0.86 B parameters, prompts of about 64 tokens, stories of 300 to 800: for a GPU
LARGE = Size(2048, 5632, 16, 16, 4, 32_768, 2048, (45, 52), (300, 800))


class Language:
    """Sentences of made-up words, drawn with one generator."""

    def __init__(self, rng: random.Random) -> None:
        self.words: list[str] = []
        while len(self.words) < 3000:
            syllables = range(rng.choice([1, 2, 2, 3]))
            word = "".join(rng.choice(ONSETS) + rng.choice(VOWELS) for _ in syllables) + rng.choice(CODAS)
            if word not in self.words:
                self.words.append(word)
        self.weights = list(itertools.accumulate(1 / (rank + 5) for rank in range(len(self.words))))
        self.good, self.bad = self.words[100:180], self.words[200:280]

    def sentence(self, rng: random.Random, favourites: list[str]) -> str:
        count = rng.randint(6, 16)
        words = []
        for _ in range(count):
            favourite = favourites and rng.random() < 0.15
            words.append(rng.choice(favourites) if favourite else rng.choices(self.words, cum_weights=self.weights)[0])
        return " ".join(words).capitalize() + rng.choice([".", ".", ".", "!", "?"])

    def text(self, rng: random.Random, words: int, favourites: list[str]) -> str:
        sentences: list[str] = []
        while sum(len(s.split()) for s in sentences) < words:
            sentences.append(self.sentence(rng, favourites))
        return " ".join(" ".join(sentences).split()[:words])


def make_lab(directory: Path, size: Size = SMALL) -> Path:
    """Write model/, pairs.jsonl, and for K = 4 and 5 rankedK.jsonl (our comparisons) and
    rankedK_pairs.jsonl (all their pairs, a prompt's together), if they are not there."""
    if (directory / "ranked5_pairs.jsonl").exists():
        return directory
    rng = random.Random(0)
    language = Language(rng)
    tokenizer = _tokenizer([language.text(rng, 200, []) for _ in range(800)])
    rows = [_pair(language, tokenizer, rng, size) for _ in range(512)]
    _model(size).save_pretrained(directory / "model")
    tokenizer.save_pretrained(directory / "model")
    _write(directory / "pairs.jsonl", rows)
    for stories in (4, 5):
        groups = list(_ranked(rows, stories))
        _write(directory / f"ranked{stories}.jsonl", groups)
        _write(directory / f"ranked{stories}_pairs.jsonl", itertools.chain(*map(_loose, groups)))
    return directory


def _tokenizer(corpus: list[str]) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=4096,
        special_tokens=["<pad>", "<s>", "</s>", START, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(corpus, trainer)
    found = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token="<pad>",  # noqa: S106
        bos_token="<s>",  # noqa: S106
        eos_token="</s>",  # noqa: S106
        additional_special_tokens=[START, END],
        padding_side="left",
    )
    found.chat_template = TEMPLATE
    return found


def _pair(language: Language, tokenizer: Any, rng: random.Random, size: Size) -> Row:
    prompt = START + language.text(rng, rng.randint(*size.prompt_words), []) + END
    return {
        "prompt": prompt,
        "chosen": _story(language, tokenizer, rng, size, language.good),
        "rejected": _story(language, tokenizer, rng, size, language.bad),
    }


def _story(language: Language, tokenizer: Any, rng: random.Random, size: Size, favourites: list[str]) -> str:
    """Its end token makes up the length."""
    length = rng.randint(*size.story_tokens)
    text = language.text(rng, max(600, size.story_tokens[1] * 3 // 2), favourites)
    return tokenizer.decode(tokenizer(text, add_special_tokens=False).input_ids[: length - 1])


def _ranked(rows: list[Row], stories: int) -> Iterator[Row]:
    """The chosen stories of (K + 1) // 2 pairs, then their rejected ones, K in all, best first."""
    each = (stories + 1) // 2
    for start in range(0, len(rows) - each + 1, each):
        part = rows[start : start + each]
        ranked = [row["chosen"] for row in part] + [row["rejected"] for row in part]
        yield {"prompt": part[0]["prompt"], "completions": ranked[:stories]}


def _loose(group: Row) -> Iterator[Row]:
    for chosen, rejected in itertools.combinations(group["completions"], 2):
        yield {"prompt": group["prompt"], "chosen": chosen, "rejected": rejected}


def _model(size: Size) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=size.vocabulary,
            hidden_size=size.hidden,
            intermediate_size=size.intermediate,
            num_hidden_layers=size.layers,
            num_attention_heads=size.heads,
            num_key_value_heads=size.kv_heads,
            max_position_embeddings=size.positions,
            rms_norm_eps=1e-6,
            tie_word_embeddings=False,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=0,
            initializer_range=0.02,
        )
    )


def _write(path: Path, rows: Any) -> None:
    temporary = path.with_suffix(".new")
    with temporary.open("w") as file:
        for row in rows:
            file.write(json.dumps(row) + "\n")
    temporary.replace(path)
