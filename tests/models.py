"""Models made on the spot: there is no hub to fetch from."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

TEXTS = [
    "Once upon a time there was a little fox. One day the fox was lost. In the end the fox came home.",
    "Write a story about a brave fox.",
    "从前，有一只小狐狸。有一天，小狐狸迷路了。最后，小狐狸回家了。",
]


def make_tiny_model(
    directory: Path, *, seed: int = 1, layers: int = 2, context: int = 256, trained: bool = False
) -> Path:
    """A Llama of random weights and its byte-level tokenizer, saved to `directory`.

    `trained`: it has learned TEXTS by heart, so that its stories come to an end.
    """
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<|end|>", "<|pad|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(TEXTS, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|end|>", pad_token="<|pad|>")
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=context,
        initializer_range=0.2,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    if trained:
        _learn_by_heart(model, tokenizer)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def _learn_by_heart(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    rows = [tokenizer.encode("Write a story.\n" + text) + [tokenizer.eos_token_id] for text in TEXTS]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for step in range(150):
        ids = torch.tensor([rows[step % len(rows)]])
        loss = model(input_ids=ids, labels=ids).loss
        model.zero_grad()
        loss.backward()
        optimizer.step()
