"""Loading a model directory: what is wrong with it is said in words."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from tokenizers.processors import TemplateProcessing

from generation.engines.loading import (
    check_model_directory,
    encode_prompt,
    load_model,
    load_tokenizer,
    render_prompt,
    stop_token_ids,
)
from generation.engines.transformers_engine import TransformersEngine
from generation.engines.values import EngineError, Weights, weights_hash

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture
def model(tiny_model, tmp_path) -> Path:
    """A copy of the tiny model, to be spoilt."""
    return shutil.copytree(tiny_model, tmp_path / "model")


def edit(path: Path, **changes: object) -> None:
    """Change fields of a JSON file; ... takes a field away."""
    fields = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({k: v for k, v in fields.items() if v is not ...}))


def without(pattern: str) -> Callable[[Path], None]:
    def spoil(directory: Path) -> None:
        for path in directory.glob(pattern):
            path.unlink()

    return spoil


SPOILS: list[tuple[Callable[[Path], object], str]] = [
    (shutil.rmtree, "is not a directory. Name the folder of a Hugging Face causal language model"),
    (without("config.json"), r"not a model directory: it has no config\.json"),
    (lambda d: (d / "config.json").write_text("{"), r"config\.json is not valid JSON .* Copy the model again"),
    (lambda d: (d / "config.json").write_bytes(b"\xff\xfe"), r"config\.json is not valid JSON"),
    (lambda d: edit(d / "config.json", auto_map={"AutoModel": "code.Model"}), "code of its own .*it is not run here"),
    (lambda d: (d / "model.safetensors").rename(d / "pytorch_model.bin"), "Convert the weights to safetensors"),
    (without("tokenizer*"), "no tokenizer. Save the tokenizer into the same folder"),
]
NAMES = [
    "no directory",
    "no config",
    "broken config",
    "binary config",
    "remote code",
    "pickled weights",
    "no tokenizer",
]


@pytest.mark.parametrize(("spoil", "told"), SPOILS, ids=NAMES)
def test_a_directory_that_is_no_model_is_told_what_is_wrong(model, spoil, told):
    spoil(model)
    with pytest.raises(EngineError, match=told):
        check_model_directory(model)


@pytest.mark.parametrize(("spoil", "told"), SPOILS, ids=NAMES)
def test_loading_weights_tells_it_too(model, spoil, told):
    spoil(model)
    with pytest.raises(EngineError, match=told):
        load_model(model)


def test_a_whole_model_directory_is_no_fault(model):
    assert check_model_directory(model) is None


def test_a_config_that_is_no_object_is_told(model):
    (model / "config.json").write_text("5")
    with pytest.raises(EngineError, match=r"config\.json"):
        check_model_directory(model)


def test_an_unknown_model_type_is_told_with_the_folder(model):
    edit(model / "config.json", model_type="new_model")
    with pytest.raises(EngineError, match=f"{model} cannot be loaded: .*new_model"):
        load_model(model)


def test_a_model_that_writes_no_text_is_told(model):
    edit(model / "config.json", model_type="vit", architectures=["ViTModel"])
    with pytest.raises(EngineError, match="cannot be loaded"):
        load_model(model)


def test_a_missing_adapter_is_told(model, tmp_path):
    with pytest.raises(EngineError, match=f"{tmp_path / 'adapter'} cannot be loaded"):
        load_model(model, tmp_path / "adapter")


def test_weights_that_were_copied_in_part_are_told(model):
    file = model / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(EngineError, match="cannot be loaded"):
        load_model(model)


def test_weights_of_another_shape_than_the_config_says_are_told(model):
    edit(model / "config.json", hidden_size=64)
    with pytest.raises(EngineError, match="cannot be loaded"):
        load_model(model)


def test_missing_weights_are_not_filled_with_random_numbers(model):
    file = model / "model.safetensors"
    save_file({k: v for k, v in load_file(file).items() if "layers.1" not in k}, file, metadata={"format": "pt"})
    with pytest.raises(EngineError, match=r"layers\.1"):
        load_model(model)


def test_a_tokenizer_without_an_end_token_is_told(model):
    edit(model / "tokenizer_config.json", eos_token=...)
    with pytest.raises(EngineError, match="no end-of-sequence token: a story would never end"):
        load_tokenizer(model)


@pytest.mark.parametrize(
    "spoil",
    [
        without("tokenizer*"),
        lambda d: (d / "tokenizer.json").write_text("{"),
        lambda d: edit(
            d / "tokenizer_config.json", tokenizer_class="New", auto_map={"AutoTokenizer": ["new.New", None]}
        ),
    ],
    ids=["none", "broken", "remote code"],
)
def test_a_tokenizer_that_cannot_be_loaded_is_told(model, spoil):
    spoil(model)
    with pytest.raises(EngineError, match="okenizer"):
        load_tokenizer(model)


def test_an_engine_on_a_folder_without_weights_tells_what_to_do(model):
    without("*.safetensors")(model)
    with pytest.raises(EngineError, match=r"no \.safetensors file"):
        TransformersEngine(Weights(model))


def test_a_model_is_loaded_for_writing_and_not_for_training(model):
    assert not load_model(model).training


def test_an_adapter_is_merged_into_the_model(model, tmp_path):
    import torch
    from peft import LoraConfig, get_peft_model

    lora = get_peft_model(load_model(model), LoraConfig(target_modules=["q_proj"], init_lora_weights=False))
    lora.save_pretrained(tmp_path / "adapter")
    ids = torch.arange(8)[None]
    merged = load_model(model, tmp_path / "adapter")
    assert type(merged) is type(load_model(model))
    torch.testing.assert_close(merged(ids).logits, lora.eval()(ids).logits, atol=1e-4, rtol=1e-3)


def test_weights_that_are_not_safetensors_have_no_hash(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"weights")
    with pytest.raises(EngineError, match="other formats are not loaded"):
        weights_hash(tmp_path)


# --- ends --------------------------------------------------------------------------------------------------

GENERATION, CONFIG = "generation_config.json", "config.json"


def stops(model: Path) -> tuple[int, ...]:
    return stop_token_ids(model, load_tokenizer(model))


def test_the_tokenizers_end_token_ends_a_story(model):
    edit(model / GENERATION, eos_token_id=...)
    edit(model / CONFIG, eos_token_id=...)
    assert stops(model) == (0,)


@pytest.mark.parametrize("name", [GENERATION, CONFIG])
@pytest.mark.parametrize(("said", "found"), [(5, (0, 5)), ([7, 5], (0, 5, 7)), ([], (0,)), (None, (0,)), ([0], (0,))])
def test_the_end_tokens_that_the_models_files_name_end_a_story_too(model, name, said, found):
    edit(model / name, eos_token_id=said)
    assert stops(model) == found


def test_an_end_token_behind_the_models_vocabulary_is_left_out(model):
    """It cannot be written, and vLLM refuses it."""
    size = json.loads((model / CONFIG).read_text())["vocab_size"]
    edit(model / CONFIG, eos_token_id=[size - 1, size])
    assert stops(model) == (0, size - 1)


def test_a_model_without_a_generation_config_is_no_fault(model):
    (model / GENERATION).unlink()
    assert stops(model) == (0,)


@pytest.mark.parametrize("name", [GENERATION, CONFIG])
@pytest.mark.parametrize("said", ["<|end|>", [0, "1"], -1, True, 1.5, {"id": 1}, [[1]]])
def test_an_end_token_that_is_no_token_id_is_told(model, name, said):
    tokenizer = load_tokenizer(model)
    edit(model / name, eos_token_id=said)
    with pytest.raises(EngineError, match=rf"{name} says eos_token_id .* a token id or a list of them"):
        stop_token_ids(model, tokenizer)


def test_a_generation_config_that_is_broken_is_told(model):
    (model / GENERATION).write_text("{")
    with pytest.raises(EngineError, match=f"{GENERATION} is not valid JSON"):
        stops(model)


# --- prompts -----------------------------------------------------------------------------------------------


@pytest.fixture
def with_bos(model):
    """A tokenizer that puts a begin token before every text, as Llama's does."""
    tokenizer = load_tokenizer(model)
    tokenizer.add_special_tokens({"bos_token": "<|begin|>"})
    begin = ("<|begin|>", tokenizer.bos_token_id)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<|begin|> $A", special_tokens=[begin])
    tokenizer.save_pretrained(model)
    return load_tokenizer(model)


@pytest.fixture
def with_chat(model, with_bos):
    with_bos.chat_template = TEMPLATE
    with_bos.save_pretrained(model)
    return load_tokenizer(model)


@pytest.fixture
def with_eos(model):
    """A tokenizer that puts an end token behind every text."""
    tokenizer = load_tokenizer(model)
    end = ("<|end|>", tokenizer.eos_token_id)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="$A <|end|>", special_tokens=[end])
    return tokenizer


def test_without_a_chat_template_a_prompt_ends_with_a_line_end(with_bos):
    assert render_prompt(with_bos, "Write.") == "Write.\n"


def test_without_a_chat_template_the_tokenizer_adds_its_begin_token(with_bos):
    ids = encode_prompt(with_bos, "Write.\n")
    assert with_bos.convert_ids_to_tokens(ids)[0] == "<|begin|>"
    assert with_bos.decode(ids[1:]) == "Write.\n"


def test_the_chat_template_stands_around_the_prompt_once(with_chat):
    assert render_prompt(with_chat, "Write.") == "<|begin|><user>Write.\n<assistant>"


def test_the_begin_token_of_a_chat_template_is_not_doubled(with_chat):
    ids = encode_prompt(with_chat, render_prompt(with_chat, "Write."))
    assert ids.count(with_chat.bos_token_id) == 1
    assert with_chat.decode(ids) == "<|begin|><user>Write.\n<assistant>"


def test_a_begin_token_that_a_chat_template_does_not_write_is_not_put_before_it(with_chat):
    """The model was trained on what its template writes."""
    with_chat.chat_template = TEMPLATE.replace("{{ bos_token }}", "")
    ids = encode_prompt(with_chat, render_prompt(with_chat, "Write."))
    assert with_chat.decode(ids) == "<user>Write.\n<assistant>"


def test_the_ids_of_a_chat_are_those_of_transformers_own_chat_template(with_chat):
    chat = [{"role": "user", "content": "Write."}]
    theirs = with_chat.apply_chat_template(chat, tokenize=True, add_generation_prompt=True, return_dict=False)
    assert encode_prompt(with_chat, render_prompt(with_chat, "Write.")) == theirs


def test_an_end_token_that_the_tokenizer_puts_behind_every_text_is_taken_away(with_eos):
    """The story comes there."""
    assert with_eos.decode(with_eos.encode("Write.\n")) == "Write.\n<|end|>"
    assert with_eos.decode(encode_prompt(with_eos, "Write.\n")) == "Write.\n"


def test_an_end_token_that_the_prompt_itself_ends_with_is_kept(model):
    tokenizer = load_tokenizer(model)
    assert tokenizer.decode(encode_prompt(tokenizer, "Write.<|end|>")) == "Write.<|end|>"


def test_an_end_token_within_the_prompt_is_kept(with_eos):
    assert with_eos.decode(encode_prompt(with_eos, "Write.<|end|>\n")) == "Write.<|end|>\n"


def test_of_the_texts_own_end_token_and_the_tokenizers_only_one_is_kept(with_eos):
    assert with_eos.decode(encode_prompt(with_eos, "Write.<|end|>")) == "Write.<|end|>"


def test_begin_and_end_tokens_of_one_tokenizer_are_both_seen_to(with_bos):
    both = [("<|begin|>", with_bos.bos_token_id), ("<|end|>", with_bos.eos_token_id)]
    with_bos.backend_tokenizer.post_processor = TemplateProcessing(single="<|begin|> $A <|end|>", special_tokens=both)
    assert with_bos.decode(encode_prompt(with_bos, "<|begin|>Write.\n")) == "<|begin|>Write.\n"
