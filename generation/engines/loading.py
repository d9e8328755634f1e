"""Loading a model directory: safetensors only, remote code off, faults said in words."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from generation.engines.faults import is_out_of_memory
from generation.engines.values import EngineError


def check_model_directory(directory: Path) -> None:
    """Raise EngineError, saying what is missing, if `directory` is not a causal model's.

    Imports nothing heavy: the web process and commands call it before a long job begins.
    """
    if not directory.is_dir():
        raise EngineError(f"{directory} is not a directory. Name the folder of a Hugging Face causal language model.")
    config = directory / "config.json"
    if not config.exists():
        raise EngineError(f"{directory} is not a model directory: it has no config.json.")
    if "auto_map" in _settings(config):
        raise EngineError(f"{directory} brings code of its own (auto_map in config.json): it is not run here.")
    if not any(directory.glob("*.safetensors")):
        raise EngineError(
            f"{directory} holds no .safetensors file. Convert the weights to safetensors: other formats are not loaded."
        )
    if not any((directory / name).exists() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        raise EngineError(f"{directory} has no tokenizer. Save the tokenizer into the same folder.")


def context_length(directory: Path) -> int:
    """The most tokens that the model in `directory` reads at once; very many if its config does not say."""
    check_model_directory(directory)
    settings = json.loads((directory / "config.json").read_text())
    found = settings.get("max_position_embeddings") or settings.get("n_positions")
    return found if isinstance(found, int) else 1 << 30


def load_tokenizer(directory: Path) -> Any:
    """The tokenizer of `directory`; EngineError if it cannot be loaded or has no end-of-sequence token."""
    from transformers import AutoTokenizer

    check_model_directory(directory)
    try:
        tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # the tokenizers library raises bare Exception
        raise EngineError(f"The tokenizer in {directory} cannot be loaded: {error}") from error
    if tokenizer.eos_token_id is None:
        raise EngineError(f"The tokenizer in {directory} has no end-of-sequence token: a story would never end.")
    return tokenizer


def stop_token_ids(directory: Path, tokenizer: Any) -> tuple[int, ...]:
    """The tokens that end a story: the tokenizer's end token, and those that the model's files name.

    Chat models often end a turn with another token than their tokenizer's. Left out are tokens behind the
    model's vocabulary: it cannot write them, and vLLM refuses them. EngineError for what is no token id.
    """
    found = {tokenizer.eos_token_id}
    config: dict[str, Any] = {}
    for name in ("generation_config.json", "config.json"):
        if (directory / name).exists():
            config = _settings(directory / name)
            found.update(_end_tokens(directory / name, config.get("eos_token_id")))
    size = config.get("vocab_size")
    return tuple(sorted(token for token in found if not isinstance(size, int) or token < size))


def _end_tokens(file: Path, said: Any) -> list[int]:
    """A token id, a list of them, or nothing."""
    ids = said if isinstance(said, list) else [] if said is None else [said]
    # True is an int, too
    if not all(isinstance(token, int) and not isinstance(token, bool) and token >= 0 for token in ids):
        raise EngineError(
            f"{file} says eos_token_id {said!r}: it must be a token id or a list of them. Correct it or copy it again."
        )
    return ids


def _settings(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise EngineError(f"{file} is not valid JSON ({error}). Copy the model again.") from error
    if not isinstance(found, dict):
        raise EngineError(f"{file} holds no settings (a JSON object). Copy the model again.")
    return found


def load_model(directory: Path, adapter: Path | None = None, *, exact: bool = False) -> Any:
    """The causal model of `directory`, with the PEFT adapter of `adapter` merged in, in eval mode.

    exact: in fp32, whatever the files hold: most of a small adapter is lost when it is added to bfloat16.
    EngineError if it cannot be loaded whole: weights that are missing are never made up.
    """
    from transformers import AutoModelForCausalLM

    check_model_directory(directory)
    with said_in_words(directory, "model"):
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            directory,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
            dtype="float32" if exact else "auto",
        )
    model, info = loaded
    missing = sorted(info["missing_keys"])
    if missing:
        raise EngineError(f"The model in {directory} lacks {len(missing)} weights, {missing[0]} first. Copy it again.")
    if adapter:
        from peft import PeftModel

        with said_in_words(adapter, "adapter"):
            model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
        model.requires_grad_(True)  # PEFT froze what it was merged into
    return model.eval()


@contextmanager
def said_in_words(directory: Path, what: str) -> Iterator[None]:
    """EngineError for whatever goes wrong while loading, but for want of memory: that is no fault of the files."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        if is_out_of_memory(error):
            raise
        raise EngineError(f"The {what} in {directory} cannot be loaded: {error}") from error


def render_prompt(tokenizer: Any, text: str) -> str:
    """The text that stands before a story: the chat template once if there is one, else the prompt and a line end.

    Exports carry it as "prompt", so that whoever trains on them sees what the sampler saw.
    """
    if tokenizer.chat_template:
        message = [{"role": "user", "content": text}]
        return tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
    return text + "\n"


def encode_prompt(tokenizer: Any, rendered: str) -> list[int]:
    """Token ids of a rendered prompt. A chat template brings its own special tokens: none are added twice.
    An end token that the tokenizer puts behind every text is taken away: the story comes there.
    """
    plain = tokenizer.encode(rendered, add_special_tokens=False)
    ids = plain if tokenizer.chat_template else tokenizer.encode(rendered)
    if ids[-len(plain) - 1 :] == [*plain, tokenizer.eos_token_id]:
        ids = ids[:-1]
    return ids[1:] if tokenizer.bos_token_id is not None and ids[:2] == 2 * [tokenizer.bos_token_id] else ids
