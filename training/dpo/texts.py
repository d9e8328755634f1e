"""From the texts of a data file to the tokens that a policy reads and writes."""

from dataclasses import dataclass
from typing import Any

from generation.engines.loading import encode_prompt


class BadRow(ValueError):
    """A line cannot be read; the message says why, in a clause without a full stop."""


@dataclass(frozen=True)
class Prompt:
    """What stands before a story. messages: its turns, if it was given as a conversation."""

    text: str
    ids: list[int]
    messages: list[dict[str, str]] | None = None


class Texts:
    """Reads prompts and stories with one tokenizer, the same prompt once."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self._last: Prompt | None = None

    def prompt(self, row: dict[str, Any]) -> Prompt:
        """The prompt of a line: text as the policy reads it (a template, if the model has one,
        already applied), or a list of messages, to which the template is applied here, once."""
        given, ids = row.get("prompt"), row.get("prompt_ids")
        messages = given if is_messages(given) else None
        text = self._templated(messages, "prompt", add_generation_prompt=True) if messages else given
        if not isinstance(text, str) or not text.strip():
            raise BadRow('"prompt" is missing, empty or not text')
        if ids is not None:
            return Prompt(text, self._ids(ids, "prompt_ids"), messages)
        if self._last is None or (self._last.text, self._last.messages) != (text, messages):
            self._last = Prompt(text, encode_prompt(self.tokenizer, _unicode(text, "prompt")), messages)
        return self._last

    def completion(self, prompt: Prompt, row: dict[str, Any], side: str) -> list[int]:
        """The tokens of a pair's story. The sampler's own, if the line has "<side>_ids"."""
        reason = row.get(f"{side}_finish_reason", "stop")
        ids = None if side == "chosen" and _is_edited(row) else row.get(f"{side}_ids")
        return self._finish(prompt, row.get(side), ids, reason, side)

    def story(self, prompt: Prompt, story: Any, name: str) -> list[int]:
        """The tokens of one of a comparison's stories: text, messages, or an object with "text",
        "token_ids", "finish_reason"."""
        found = story if isinstance(story, dict) else {"text": story}
        ids = None if _is_edited(found) else found.get("token_ids")
        return self._finish(prompt, found.get("text"), ids, found.get("finish_reason", "stop"), name)

    def _finish(self, prompt: Prompt, given: Any, ids: Any, finish_reason: Any, name: str) -> list[int]:
        """One end token, and only if the writer stopped by itself: a story that was cut off has no end."""
        text = self._turn(prompt, given, name) if is_messages(given) else given
        if not isinstance(text, str) or not text.strip():
            raise BadRow(f'"{name}" is missing, empty or not text')
        if finish_reason not in ("stop", "length"):
            raise BadRow(f'{name} has the finish reason {finish_reason!r}: it must be "stop" or "length"')
        end = self.tokenizer.eos_token_id
        found = self._without_end(self._encode(prompt, text, name)) if ids is None else self._ids(ids, f"{name}_ids")
        return found if finish_reason == "length" or found[-1:] == [end] else [*found, end]

    def _without_end(self, ids: list[int]) -> list[int]:
        """The story before the end token that a template, or whoever wrote the text, has put behind it;
        what stands behind the end (a template's line break) no policy ever writes."""
        end = self.tokenizer.eos_token_id
        if end not in ids:
            return ids
        at = len(ids) - 1 - ids[::-1].index(end)
        return ids if self.tokenizer.decode(ids[at + 1 :]).strip() else ids[:at]

    def _encode(self, prompt: Prompt, text: str, name: str) -> list[int]:
        """The story as it continues the prompt; by itself where the two would merge into one token,
        since the prompt must stay what the policy will read."""
        whole = encode_prompt(self.tokenizer, prompt.text + _unicode(text, name))
        at = len(prompt.ids)
        found = whole[at:] if whole[:at] == prompt.ids else self.tokenizer.encode(text, add_special_tokens=False)
        if not found:
            raise BadRow(f'"{name}" has no token')
        return found

    def _turn(self, prompt: Prompt, messages: Any, side: str) -> str:
        """What the template writes for the answer, its end included."""
        if prompt.messages is None:
            raise BadRow(f"{side} is a conversation, but its prompt is text")
        whole = self._templated([*prompt.messages, *messages], side)
        if not whole.startswith(prompt.text):
            raise BadRow(f"the chat template does not write {side} behind its prompt")
        return whole[len(prompt.text) :]

    def _templated(self, messages: list[dict[str, str]], name: str, **options: Any) -> str:
        from jinja2 import TemplateError

        if not self.tokenizer.chat_template:
            raise BadRow(f"{name} is a conversation, but this model's tokenizer has no chat template")
        try:
            return self.tokenizer.apply_chat_template(messages, tokenize=False, **options)
        except TemplateError as error:
            raise BadRow(f"the chat template refuses {name} ({error})") from error

    @staticmethod
    def _ids(ids: Any, name: str) -> list[int]:
        if not isinstance(ids, list) or not ids or not all(type(i) is int and i >= 0 for i in ids):
            raise BadRow(f"{name} is no list of token ids")
        return list(ids)


def _is_edited(found: dict[str, Any]) -> bool:
    """A person wrote it, and no sampler: it has text alone."""
    return found.get("edited") is True


def _unicode(text: str, name: str) -> str:
    """`text`, which must be whole: JSON can carry half of a character."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadRow(f"{name} holds half of a character ({error.reason})") from error
    return text


def is_messages(given: Any) -> bool:
    """Whether `given` is a conversation: a list of {"role", "content"}."""
    return (
        isinstance(given, list)
        and bool(given)
        and all(isinstance(m, dict) and isinstance(m.get("content"), str) and "role" in m for m in given)
    )
