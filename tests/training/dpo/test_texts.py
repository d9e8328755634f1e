"""From text to tokens: each special token once, and the policy trained on what it will read and write."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, pre_tokenizers
from tokenizers.processors import TemplateProcessing

from generation.engines.loading import encode_prompt, load_tokenizer, render_prompt
from training.dpo.texts import BadRow, Prompt, Texts, is_messages

PLAIN = "{% for m in messages %}user: {{ m.content }}\n{% endfor %}story: "
CHAT = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
CHAT_AND_LINE_END = CHAT.replace("{{ eos_token }}", "{{ eos_token }}\n")  # as ChatML and Qwen have it
REFUSES_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system turn') }}{% endif %}" + CHAT
QUESTION = [{"role": "user", "content": "Write a story."}]


@pytest.fixture
def tokenizer(tiny_model: Path) -> Any:
    return load_tokenizer(tiny_model)


@pytest.fixture
def bos_tokenizer(tokenizer: Any) -> Any:
    """The same tokenizer, but it puts a begin token before every text."""
    tokenizer.add_special_tokens({"bos_token": "<|begin|>"})
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|begin|> $A", special_tokens=[("<|begin|>", tokenizer.bos_token_id)]
    )
    assert tokenizer.encode("a")[0] == tokenizer.bos_token_id
    return tokenizer


@pytest.fixture
def eos_tokenizer(tokenizer: Any) -> Any:
    """The same tokenizer, but it puts an end token behind every text."""
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="$A <|end|>", special_tokens=[("<|end|>", tokenizer.eos_token_id)]
    )
    assert tokenizer.encode("a")[-1] == tokenizer.eos_token_id
    return tokenizer


@pytest.fixture
def chat_tokenizer(tokenizer: Any) -> Any:
    tokenizer.chat_template = CHAT
    return tokenizer


def read(tokenizer: Any, prompt: Any, story: Any, **more: Any) -> tuple[Prompt, list[int]]:
    """The prompt and the chosen story of a line."""
    texts, row = Texts(tokenizer), {"prompt": prompt, "chosen": story, **more}
    found = texts.prompt(row)
    return found, texts.completion(found, row, "chosen")


def written(tokenizer: Any, prompt: Any, story: Any, **more: Any) -> tuple[str, str]:
    """The same, as the text that their tokens stand for."""
    found, ids = read(tokenizer, prompt, story, **more)
    return tokenizer.decode(found.ids), tokenizer.decode(ids)


def answer(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def letters(tokenizer: Any, text: str) -> list[int]:
    """Tokens of `text` as a sampler may write them and the tokenizer never does: letter by letter."""
    ids = [token for letter in text for token in tokenizer.encode(letter)]
    assert ids != tokenizer.encode(text)
    return ids


# -- the end token


def test_a_story_gets_the_end_token_once(tokenizer: Any):
    assert written(tokenizer, "Write.\n", "A fox.") == ("Write.\n", "A fox.<|end|>")


def test_a_story_that_brings_its_end_token_as_text_gets_no_second(tokenizer: Any):
    assert written(tokenizer, "Write.\n", "A fox.<|end|>") == ("Write.\n", "A fox.<|end|>")


def test_a_story_that_was_cut_off_gets_no_end_token(tokenizer: Any):
    """Else the policy would learn to stop where the sampler ran out of room."""
    assert written(tokenizer, "Write.\n", "A fox", chosen_finish_reason="length") == ("Write.\n", "A fox")


def test_sampled_ids_that_were_cut_off_get_no_end_token(tokenizer: Any):
    _, ids = read(tokenizer, "Write.\n", "A fox", chosen_ids=[30, 31], chosen_finish_reason="length")
    assert ids == [30, 31]


def test_a_finish_reason_belongs_to_its_side(tokenizer: Any):
    assert written(tokenizer, "Write.\n", "A fox", rejected_finish_reason="length")[1] == "A fox<|end|>"


@pytest.mark.parametrize("reason", ["abort", "", None, 1, ["length"]])
def test_a_finish_reason_that_is_not_known_is_refused(tokenizer: Any, reason: Any):
    with pytest.raises(BadRow, match="chosen has the finish reason"):
        read(tokenizer, "Write.\n", "A fox", chosen_finish_reason=reason)


def test_a_tokenizer_that_ends_every_text_ends_a_story_once(eos_tokenizer: Any):
    assert written(eos_tokenizer, "Write.\n", "A fox.") == ("Write.\n", "A fox.<|end|>")


def test_a_tokenizer_that_ends_every_text_does_not_end_a_story_that_was_cut_off(eos_tokenizer: Any):
    assert written(eos_tokenizer, "Write.\n", "A fox", chosen_finish_reason="length")[1] == "A fox"


def test_a_tokenizer_that_ends_every_text_gives_no_second_end_to_a_story_that_brings_its_own(eos_tokenizer: Any):
    assert written(eos_tokenizer, "Write.\n", "A fox.<|end|>")[1] == "A fox.<|end|>"


def test_an_end_token_with_a_line_end_behind_it_gets_no_second(tokenizer: Any):
    """The answer's part of a conversation in ChatML, written out by whoever made the file."""
    _, ids = read(tokenizer, "Write.\n", "A fox.<|end|>\n")
    assert ids.count(tokenizer.eos_token_id) == 1


# -- the sampler's tokens


def test_the_samplers_ids_are_used_though_the_text_tokenizes_otherwise(tokenizer: Any):
    sampled = letters(tokenizer, "fox")
    _, ids = read(tokenizer, "Write.\n", "fox", chosen_ids=sampled)
    assert ids == [*sampled, tokenizer.eos_token_id]


def test_sampled_ids_that_bring_their_end_token_get_no_second(tokenizer: Any):
    ended = [30, 31, tokenizer.eos_token_id]
    assert read(tokenizer, "Write.\n", "fox", chosen_ids=ended)[1] == ended


def test_each_side_has_its_own_sampled_ids(tokenizer: Any):
    texts = Texts(tokenizer)
    row = {"prompt": "p", "chosen": "fox", "rejected": "fox", "chosen_ids": [30], "rejected_ids": [31]}
    prompt = texts.prompt(row)
    found = [texts.completion(prompt, row, side) for side in ("chosen", "rejected")]
    assert found == [[30, tokenizer.eos_token_id], [31, tokenizer.eos_token_id]]


def test_the_prompts_sampled_ids_are_used(tokenizer: Any):
    sampled = letters(tokenizer, "fox")
    assert read(tokenizer, "fox", "story", prompt_ids=sampled)[0].ids == sampled


def test_the_story_behind_sampled_prompt_ids_is_whole(tokenizer: Any):
    """The prompt's own tokens are fewer: to cut prompt+story at the sampler's number would lose some."""
    sampled = letters(tokenizer, "fox")
    assert written(tokenizer, "fox", " came home", prompt_ids=sampled) == ("fox", " came home<|end|>")


def test_the_ids_of_one_line_are_not_those_of_the_next(tokenizer: Any):
    texts = Texts(tokenizer)
    texts.prompt({"prompt": "fox", "prompt_ids": [30]})
    assert texts.prompt({"prompt": "fox"}).ids == tokenizer.encode("fox")
    assert texts.prompt({"prompt": "day"}).ids == tokenizer.encode("day")


@pytest.mark.parametrize("ids", ["abc", [], [1.5], [True], [-1], 7])
def test_prompt_ids_that_are_no_token_ids_are_refused(tokenizer: Any, ids: Any):
    with pytest.raises(BadRow, match="prompt_ids is no list of token ids"):
        read(tokenizer, "fox", "story", prompt_ids=ids)


def test_a_story_of_a_comparison_may_bring_ids_and_a_finish_reason(tokenizer: Any):
    texts = Texts(tokenizer)
    prompt = texts.prompt({"prompt": "Write.\n"})
    sampled = letters(tokenizer, "fox")
    story = {"text": "fox", "token_ids": sampled}
    assert texts.story(prompt, story, "s") == [*sampled, tokenizer.eos_token_id]
    assert texts.story(prompt, {**story, "finish_reason": "length"}, "s") == sampled
    assert texts.story(prompt, "fox", "s") == [*tokenizer.encode("fox"), tokenizer.eos_token_id]


# -- where prompt and story meet


def test_prompt_and_story_do_not_merge_across_their_boundary(tokenizer: Any):
    """ "f" + "ox" would be one word if the two were tokenized as one text."""
    prompt, ids = read(tokenizer, "A f", "ox")
    assert tokenizer.encode("A fox")[: len(prompt.ids)] != prompt.ids
    assert prompt.ids == tokenizer.encode("A f")
    assert ids == [*tokenizer.encode("ox"), tokenizer.eos_token_id]


def test_a_story_is_tokenized_as_it_continues_its_prompt(tokenizer: Any):
    """A tokenizer that puts a space before every text puts none between prompt and story."""
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    assert tokenizer.decode(tokenizer.encode("fox")) == " fox"
    assert written(tokenizer, "Write.\n", "fox") == (" Write.\n", "fox<|end|>")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.sampled_from("fox 小\n."), min_size=1), st.text(st.sampled_from("fox 小\n."), min_size=1))
def test_prompt_and_story_are_what_they_were_and_the_prompt_is_what_the_sampler_saw(
    tokenizer: Any, prompt: str, story: str
):
    if not prompt.strip() or not story.strip():
        return
    found, ids = read(tokenizer, prompt, story)
    assert found.ids == encode_prompt(tokenizer, prompt)
    assert tokenizer.decode(ids) == story + "<|end|>"


# -- the begin token


def test_the_begin_token_stands_once_before_the_prompt_and_never_before_a_story(bos_tokenizer: Any):
    assert written(bos_tokenizer, "Write.\n", "A fox.") == ("<|begin|>Write.\n", "A fox.<|end|>")


def test_no_begin_token_stands_before_a_story_that_would_merge_with_its_prompt(bos_tokenizer: Any):
    assert written(bos_tokenizer, "A f", "ox") == ("<|begin|>A f", "ox<|end|>")


def test_a_prompt_that_brings_its_begin_token_gets_no_second(bos_tokenizer: Any):
    assert written(bos_tokenizer, "<|begin|>Write.\n", "A fox.") == ("<|begin|>Write.\n", "A fox.<|end|>")


def test_a_begin_token_that_the_tokenizer_does_not_put_is_not_put(tokenizer: Any):
    """Qwen's tokenizers name one and never write it."""
    tokenizer.add_special_tokens({"bos_token": "<|begin|>"})
    assert written(tokenizer, "Write.\n", "A fox.") == ("Write.\n", "A fox.<|end|>")


@pytest.mark.parametrize("template", [None, PLAIN, "<|begin|>" + PLAIN], ids=["plain", "chat", "chat that begins"])
def test_the_prompt_is_what_the_sampler_saw(bos_tokenizer: Any, template: str | None):
    bos_tokenizer.chat_template = template
    rendered = render_prompt(bos_tokenizer, "Write a story about a fox.")
    assert read(bos_tokenizer, rendered, "A fox.")[0].ids == encode_prompt(bos_tokenizer, rendered)


# -- conversations


def test_a_conversation_gets_the_chat_template_once(chat_tokenizer: Any):
    found = written(chat_tokenizer, QUESTION, answer("A fox."))
    assert found == ("<user>Write a story.<|end|><assistant>", "A fox.<|end|>")


def test_a_conversations_answer_may_be_text(chat_tokenizer: Any):
    assert written(chat_tokenizer, QUESTION, "A fox.") == written(chat_tokenizer, QUESTION, answer("A fox."))


def test_a_text_prompt_is_taken_as_it_is_though_the_model_has_a_template(chat_tokenizer: Any):
    assert written(chat_tokenizer, "Write.\n", "A fox.") == ("Write.\n", "A fox.<|end|>")


def test_a_conversation_reads_as_its_rendered_text(chat_tokenizer: Any):
    rendered = render_prompt(chat_tokenizer, "Write a story.")
    assert read(chat_tokenizer, QUESTION, "A fox.")[0].ids == read(chat_tokenizer, rendered, "A fox.")[0].ids


def test_a_conversation_has_the_begin_token_once(bos_tokenizer: Any):
    bos_tokenizer.chat_template = "{{ bos_token }}" + CHAT
    found = written(bos_tokenizer, QUESTION, answer("A fox."))
    assert found == ("<|begin|><user>Write a story.<|end|><assistant>", "A fox.<|end|>")


def test_an_answer_ends_with_its_end_token_whatever_the_template_writes_behind_it(tokenizer: Any):
    tokenizer.chat_template = CHAT_AND_LINE_END
    assert written(tokenizer, QUESTION, answer("A fox."))[1] == "A fox.<|end|>"


def test_the_samplers_ids_of_an_answer_are_used_and_end_once(tokenizer: Any):
    tokenizer.chat_template = CHAT_AND_LINE_END
    sampled = letters(tokenizer, "fox")
    _, ids = read(tokenizer, QUESTION, answer("fox"), chosen_ids=sampled)
    assert ids == [*sampled, tokenizer.eos_token_id]


def test_the_samplers_ids_of_a_conversation_are_used(chat_tokenizer: Any):
    assert read(chat_tokenizer, QUESTION, answer("fox"), prompt_ids=[30, 31])[0].ids == [30, 31]


def test_a_conversation_without_a_chat_template_is_refused(tokenizer: Any):
    with pytest.raises(BadRow, match="no chat template"):
        read(tokenizer, QUESTION, answer("A fox."))


def test_a_conversation_behind_a_text_prompt_is_refused(chat_tokenizer: Any):
    with pytest.raises(BadRow, match="chosen is a conversation, but its prompt is text"):
        read(chat_tokenizer, "Write.\n", answer("A fox."))


def test_a_template_that_writes_the_prompt_otherwise_before_an_answer_is_refused(tokenizer: Any):
    tokenizer.chat_template = "{{ messages | length }}" + CHAT
    with pytest.raises(BadRow, match="the chat template does not write chosen behind its prompt"):
        read(tokenizer, QUESTION, answer("A fox."))


@pytest.mark.parametrize("given", [[], "text", [{"role": "user"}], [{"content": "a"}], ["a"], [{**QUESTION[0]}, 1]])
def test_other_things_are_no_conversation(given: Any):
    assert not is_messages(given)


def test_an_answer_that_was_cut_off_gets_no_end_token(chat_tokenizer: Any):
    assert written(chat_tokenizer, QUESTION, answer("A fox"), chosen_finish_reason="length")[1] == "A fox"


def test_an_answer_whose_ids_are_null_ends_once(tokenizer: Any):
    tokenizer.chat_template = CHAT_AND_LINE_END
    found = written(tokenizer, QUESTION, answer("A fox."), chosen_ids=None)[1]
    assert found.count("<|end|>") == 1


def test_an_answer_ends_though_the_template_writes_no_end(tokenizer: Any):
    tokenizer.chat_template = CHAT.replace("{{ eos_token }}", "\n")
    assert written(tokenizer, QUESTION, answer("A fox."))[1].endswith("<|end|>")


def test_an_answer_ends_though_the_end_token_takes_in_the_white_space_behind_it(tokenizer: Any):
    tokenizer.add_special_tokens({"eos_token": AddedToken("<|end|>", rstrip=True, special=True)})
    tokenizer.chat_template = CHAT_AND_LINE_END
    assert written(tokenizer, QUESTION, answer("A fox."))[1] == "A fox.<|end|>"


def test_a_conversation_that_the_template_refuses_is_a_bad_row(tokenizer: Any):
    tokenizer.chat_template = REFUSES_SYSTEM
    with pytest.raises(BadRow, match="no system turn"):
        read(tokenizer, [{"role": "system", "content": "You write."}, *QUESTION], answer("A fox."))


def test_a_story_of_a_comparison_may_be_a_conversation(chat_tokenizer: Any):
    texts = Texts(chat_tokenizer)
    prompt = texts.prompt({"prompt": QUESTION})
    assert chat_tokenizer.decode(texts.story(prompt, answer("A fox."), "s")) == "A fox.<|end|>"


def test_empty_prompt_ids_of_a_conversation_are_refused(chat_tokenizer: Any):
    with pytest.raises(BadRow, match="prompt_ids is no list of token ids"):
        read(chat_tokenizer, QUESTION, answer("A fox."), prompt_ids=[])


class TestEdited:
    """A story that a person wrote comes without tokens: our exports say `edited`, and leave them empty."""

    def test_the_chosen_story_is_read_as_text(self, tokenizer: Any) -> None:
        assert read(tokenizer, "a\n", "b", edited=True, chosen_ids=[]) == read(tokenizer, "a\n", "b")

    def test_the_rejected_story_keeps_its_own_tokens(self, tokenizer: Any) -> None:
        texts, row = Texts(tokenizer), {"prompt": "a\n", "rejected": "b", "rejected_ids": [7, 8], "edited": True}
        assert texts.completion(texts.prompt(row), row, "rejected")[:2] == [7, 8]

    def test_so_is_one_of_a_comparisons_stories(self, tokenizer: Any) -> None:
        texts = Texts(tokenizer)
        prompt = texts.prompt({"prompt": "a\n"})
        edited = {"text": "b", "token_ids": [], "edited": True}
        assert texts.story(prompt, edited, "completions[0]") == texts.story(prompt, "b", "completions[0]")

    def test_without_the_word_no_tokens_are_a_fault(self, tokenizer: Any) -> None:
        with pytest.raises(BadRow, match="chosen_ids is no list of token ids"):
            read(tokenizer, "a\n", "b", chosen_ids=[])
