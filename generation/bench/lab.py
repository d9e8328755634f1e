"""What the engines write with and about: a model made on the spot or given, and the shipped prompts."""

import json
import shutil
from pathlib import Path

from generation.engines.loading import check_model_directory

PROMPTS = Path(__file__).resolve().parent.parent / "data" / "shipped_prompts.jsonl"
PLACE = "<|none{}|>"


def prompts(count: int) -> list[str]:
    """The first `count` shipped prompts, again from the first where there are not so many."""
    texts = [json.loads(line)["text"] for line in PROMPTS.read_text().splitlines()]
    return [texts[index % len(texts)] for index in range(count)]


def make_model(directory: Path) -> Path:
    """A Llama of the demo writer's size, 1 M random weights: time does not depend on what it writes."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<|end|>", "<|pad|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=1536, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(prompts(100), trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token=special[0], pad_token=special[1])
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=1536,
        hidden_size=128,
        intermediate_size=352,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=1024,
        initializer_range=0.08,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=1,
    )
    LlamaForCausalLM(config).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def without_end(model: Path, directory: Path) -> Path:
    """A copy of `model` whose end token lies behind its vocabulary: every story has full length."""
    from transformers import AutoConfig, AutoTokenizer

    check_model_directory(model)
    shutil.copytree(model, directory)
    tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
    size = AutoConfig.from_pretrained(directory, local_files_only=True).get_text_config().vocab_size
    missing = max(size - len(tokenizer), 0)
    tokenizer.add_tokens([PLACE.format(number) for number in range(missing)], special_tokens=True)
    tokenizer.add_special_tokens({"eos_token": PLACE.format("")})
    tokenizer.save_pretrained(directory)
    for name in ("config.json", "generation_config.json"):
        path = directory / name
        if path.exists():
            path.write_text(json.dumps({**json.loads(path.read_text()), "eos_token_id": tokenizer.eos_token_id}))
    return directory
