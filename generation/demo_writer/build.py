"""Train the demo writer from scratch: a Llama of about 1 M parameters and its byte-level BPE.

It knows nothing of DPO: this is the supervised model whose faults DPO has to mend.
"""

import fcntl
import math
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from generation.demo_writer import corpus
from generation.demo_writer.recipe import Recipe

END, PAD = "<|end|>", "<|pad|>"


def build(
    directory: Path,
    recipe: Recipe | None = None,
    on_step: Callable[[int, int, float], None] = lambda step, total, loss: None,
) -> Path:
    """Train the writer into `directory` unless it is there, and return `directory`.

    `on_step(step, total, loss)` is called after each optimizer step. The directory appears
    whole or not at all: a build that is killed leaves only a .tmp folder. Of two that build in one folder
    at once the second waits, and finds it done.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    with _alone_in(directory.parent):
        if not (directory / "model.safetensors").exists():
            _build(directory, recipe or Recipe(), on_step)
    return directory


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Ends with the process, however that ends."""
    held = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        os.close(held)


def _build(directory: Path, recipe: Recipe, on_step: Callable[[int, int, float], None]) -> None:
    texts = list(corpus.pairs(recipe.seed, recipe.stories, wide=recipe.wide))
    tokenizer = _train_tokenizer(texts, recipe)
    model = _train_model(texts, tokenizer, recipe, on_step)
    temporary = directory.with_name(f"{directory.name}.{os.getpid()}.tmp")
    model.save_pretrained(temporary)
    tokenizer.save_pretrained(temporary)
    shutil.rmtree(directory, ignore_errors=True)
    temporary.rename(directory)


def _train_tokenizer(texts: list[tuple[str, str]], recipe: Recipe) -> PreTrainedTokenizerFast:
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=recipe.vocabulary,
        special_tokens=[END, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator((text for pair in texts for text in pair), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token=END, pad_token=PAD, clean_up_tokenization_spaces=False
    )


def _train_model(
    texts: list[tuple[str, str]],
    tokenizer: PreTrainedTokenizerFast,
    recipe: Recipe,
    on_step: Callable[[int, int, float], None],
) -> LlamaForCausalLM:
    torch.manual_seed(recipe.seed)
    model = LlamaForCausalLM(_config(tokenizer, recipe))
    optimizers = _optimizers(model, recipe)
    schedules = [torch.optim.lr_scheduler.LambdaLR(o, lambda s: _rate(s, recipe)) for o in optimizers]
    batches = _batches(texts, tokenizer, recipe)
    for step in range(1, recipe.steps + 1):
        ids, labels = next(batches)
        loss = model(input_ids=ids, labels=labels).loss
        model.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            schedule.step()
        on_step(step, recipe.steps, loss.item())
    return model.eval()


def _optimizers(model: LlamaForCausalLM, recipe: Recipe) -> list[torch.optim.Optimizer]:
    matrices: list[torch.nn.Parameter] = []
    rest: list[torch.nn.Parameter] = []
    for name, parameter in model.named_parameters():
        (matrices if parameter.ndim == 2 and "embed" not in name else rest).append(parameter)
    return [
        torch.optim.Muon(matrices, lr=recipe.matrix_rate, weight_decay=0.0),
        torch.optim.AdamW(rest, lr=recipe.learning_rate, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def _rate(step: int, recipe: Recipe) -> float:
    warm_up = recipe.warm_up * recipe.steps
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / (recipe.steps - warm_up)))


def _config(tokenizer: PreTrainedTokenizerFast, recipe: Recipe) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.hidden,
        intermediate_size=recipe.hidden * 11 // 4,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        initializer_range=recipe.initial_spread,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _batches(
    texts: list[tuple[str, str]], tokenizer: PreTrainedTokenizerFast, recipe: Recipe
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Endless (ids, labels), each [batch, length], right-padded; stories of like length together."""
    rows = [
        tokenizer.encode(prompt + "\n") + tokenizer.encode(story) + [tokenizer.eos_token_id] for prompt, story in texts
    ]
    rows.sort(key=len)
    starts = range(0, len(rows) - recipe.batch + 1, recipe.batch)
    generator = torch.Generator().manual_seed(recipe.seed)
    while True:
        for index in torch.randperm(len(starts), generator=generator).tolist():
            batch = rows[starts[index] : starts[index] + recipe.batch]
            width = max(map(len, batch))
            ids = torch.tensor([row + [tokenizer.pad_token_id] * (width - len(row)) for row in batch])
            # the end token is trained: pad and end are different ids
            yield ids, ids.masked_fill(ids == tokenizer.pad_token_id, -100)
