"""Stories through plain transformers: the embedded default, on a GPU if there is one, else the CPU.

Stories are written side by side, a row each. A row that has ended leaves at once, and when some places
are free the next stories take them. A prompt is read once for its sister stories. Each story has
its own uniform random numbers, drawn from its own seed before it begins, so that it does not depend
on which others are written beside it.
"""

import gc
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count, groupby
from typing import Any

import torch
import transformers
from transformers import DynamicCache

from generation.engines import loading
from generation.engines.faults import is_out_of_memory
from generation.engines.rows import Layers, Masks, RowCache
from generation.engines.sampling import Sampling, sample
from generation.engines.values import LENGTH, STOP, TOO_LONG, Completion, EngineError, Request, Take, Weights

TICK = 8  # tokens between looks at who wants the writing to stop


@dataclass
class _Story:
    """One that waits or is being written."""

    request: Request
    rendered: str
    prompt: list[int]
    uniform: list[float] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    logps: list[float] = field(default_factory=list)
    ended: str = ""

    @property
    def latest(self) -> int:
        """The token that the model reads next."""
        return self.token_ids[-1] if self.token_ids else self.prompt[-1]

    @property
    def length(self) -> int:
        """Tokens before `latest`."""
        return len(self.prompt) + len(self.token_ids) - 1

    @property
    def room(self) -> int:
        return len(self.prompt) + self.request.sampling.max_tokens

    def begin(self) -> None:
        generator = torch.Generator().manual_seed(self.request.sampling.seed)
        self.uniform = torch.rand(self.request.sampling.max_tokens, generator=generator).tolist()

    def add(self, token: int, stops: set[int]) -> None:
        if token in stops:
            self.ended = STOP
            return
        self.token_ids.append(token)
        if len(self.token_ids) == self.request.sampling.max_tokens:
            self.ended = LENGTH


@contextmanager
def _memory_that_suffices(device: str) -> Iterator[None]:
    """EngineError where the block does not find enough."""
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        whose = "GPU's" if device == "cuda" else "machine's"
        advice = ", or set STORYLOOP_ENGINE=vllm" if device == "cuda" else ", or choose a smaller model"
        raise EngineError(
            f"The {whose} memory does not suffice for writing with transformers. Let nothing else use it{advice}."
        ) from error


class TransformersEngine:
    """An engine (see values.Engine) over transformers; `batch` stories at a time."""

    name = "transformers"
    version = transformers.__version__

    def __init__(self, weights: Weights, *, batch: int = 64) -> None:
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.tokenizer = loading.load_tokenizer(weights.directory)
        self.stops = set(loading.stop_token_ids(weights.directory, self.tokenizer))
        self.limit = loading.context_length(weights.directory)
        before = weights.stamps()
        with _memory_that_suffices(self.device):
            self.model = loading.load_model(weights.directory, weights.adapter).to(self.device)
        self.masks = Masks(self.model)
        self.weights_hash = weights.identity()
        weights.require_unchanged(before)
        self.batch = batch

    def write(self, take: Take) -> Generator[Completion, None, None]:
        with _memory_that_suffices(self.device):
            yield from self._write(take)

    def _write(self, take: Take) -> Generator[Completion, None, None]:
        waiting: list[_Story] = []
        desk = _Desk(self)
        more = True  # take may have something
        for step in count():
            if step % TICK == 0:
                take(0)
            if more and len(waiting) < self.batch:
                taken = take(4 * self.batch - len(waiting))
                more = bool(taken)
                stories = self._stories(taken)
                waiting += [story for story in stories if story.room <= self.limit]
                # sisters stand together: less padding, and one reading of their prompt
                waiting.sort(key=lambda story: (len(story.prompt), story.prompt))
                yield from (self._completion(s, TOO_LONG) for s in stories if s.room > self.limit)
                continue
            free = self.batch - len(desk.stories)
            if waiting and free >= max(1, self.batch // 8):
                desk.seat(waiting[:free])
                del waiting[:free]
            if not desk.stories:
                return
            for story in desk.step():
                more = True
                yield self._completion(story, story.ended)

    def close(self) -> None:
        """Free the model; the engine writes no more."""
        del self.model
        gc.collect()
        if self.device == "cuda":
            torch.cuda.empty_cache()

    def _stories(self, requests: list[Request]) -> list[_Story]:
        read: dict[str, tuple[str, list[int]]] = {}
        for text in {request.prompt for request in requests}:
            rendered = loading.render_prompt(self.tokenizer, text)
            read[text] = rendered, loading.encode_prompt(self.tokenizer, rendered)
        return [_Story(request, *read[request.prompt]) for request in requests]

    def _completion(self, story: _Story, reason: str) -> Completion:
        return Completion(
            key=story.request.key,
            rendered_prompt=story.rendered,
            text=self.tokenizer.decode(story.token_ids, skip_special_tokens=True).strip(),
            token_ids=tuple(story.token_ids),
            finish_reason=reason,
            weights_hash=self.weights_hash,
            logps=tuple(story.logps),
        )


class _Desk:
    """Where stories are being written: row r of every tensor is stories[r]'s."""

    def __init__(self, engine: TransformersEngine) -> None:
        self.model, self.device = engine.model, engine.device
        self.stops, self.masks = engine.stops, engine.masks
        self.stories: list[_Story] = []
        self.cache: RowCache | None = None
        self.sampling = Sampling.of([])
        self.seen: torch.Tensor | None = None
        self.latest_prompt: list[int] = []
        self.latest_layers: Layers = []

    @torch.inference_mode()
    def seat(self, stories: list[_Story]) -> None:
        """Give each of `stories`, which stand in the order of their prompts, a row of its own."""
        groups = [list(group) for _, group in groupby(stories, key=lambda story: story.prompt)]
        read = self._read([group[0].prompt for group in groups])
        self.cache = self.cache or RowCache(read[0])
        longest = max(story.length for story in self.stories + stories)
        self.cache.reserve(len(self.stories) + len(stories), longest + 1)
        for group, layers in zip(groups, read, strict=True):
            self.cache.put(len(self.stories), layers, len(group))
            self.stories += group
        for story in stories:
            story.begin()
        self._seated()

    def _read(self, prompts: list[list[int]]) -> list[Layers]:
        """Keys and values of each prompt; the first one's sisters may have been seated before."""
        found = [self.latest_layers] if prompts[0] == self.latest_prompt else []
        if fresh := prompts[len(found) :]:
            longest = max(map(len, fresh))
            # no mask: no token looks at the padding behind it
            ids = torch.tensor([prompt + (longest - len(prompt)) * [0] for prompt in fresh], device=self.device)
            cache: Any = DynamicCache()
            self.model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
            for row, prompt in enumerate(fresh):
                here = slice(0, len(prompt))
                found.append([(layer.keys[row, :, here], layer.values[row, :, here]) for layer in cache.layers])
        self.latest_prompt = prompts[-1]
        self.latest_layers = [(keys.clone(), values.clone()) for keys, values in found[-1]]
        return found

    @torch.inference_mode()
    def step(self) -> list[_Story]:
        """Write one token in each row; the stories that have ended leave and are returned."""
        tokens, logps = self._draw()
        for row, (story, token) in enumerate(zip(self.stories, tokens, strict=True)):
            story.add(token, self.stops)
            if story.request.logps and story.ended != STOP:
                story.logps.append(logps[row])
        ended = [story for story in self.stories if story.ended]
        if ended:
            self._leave()
        return ended

    def _draw(self) -> tuple[list[int], list[float]]:
        """Each row's next token, and its log-probability if any of the stories wants to know it."""
        assert self.cache is not None
        self.cache.begin_step([story.length for story in self.stories], self.device)
        latest = torch.tensor([[story.latest] for story in self.stories], device=self.device)
        with self.masks.on(self.cache) as mask:
            logits = self.model(
                latest,
                attention_mask=mask,
                position_ids=self.cache.lengths[:, None],
                past_key_values=self.cache,
                use_cache=True,
            ).logits[:, -1]
        uniform = torch.tensor([story.uniform[len(story.token_ids)] for story in self.stories], device=self.device)
        if self.sampling.penalised and self.seen is None:
            self.seen = self._seen(logits.shape[-1])
        drawn = sample(logits, self.sampling, uniform, self.seen)
        tokens = drawn.tolist()
        if max(tokens) >= logits.shape[-1]:
            raise EngineError("The model computes no numbers (nan): its weights are broken. Train or copy it again.")
        if self.seen is not None:
            self.seen.scatter_(1, drawn[:, None], True)
        if not any(story.request.logps for story in self.stories):
            return tokens, []
        return tokens, logits.float().log_softmax(-1).gather(-1, drawn[:, None]).squeeze(-1).tolist()

    def _leave(self) -> None:
        """Close up: the last rows go to the places of those that have ended."""
        going = [row for row, story in enumerate(self.stories) if not story.ended]
        places = [row for row in range(len(going)) if self.stories[row].ended]
        movers = [row for row in going if row >= len(going)]
        if movers and self.cache:
            self.cache.move(movers, places)
        for place, mover in zip(places, movers, strict=True):
            self.stories[place] = self.stories[mover]
        del self.stories[len(going) :]
        self._seated()

    def _seated(self) -> None:
        """Lay out what belongs to the rows as they are now."""
        self.sampling = Sampling.of([story.request.sampling for story in self.stories], self.device)
        self.seen = None

    def _seen(self, vocabulary: int) -> torch.Tensor:
        """[rows, vocabulary] bool, true for the tokens of the prompt and of the story so far."""
        seen = torch.zeros(len(self.stories), vocabulary, dtype=torch.bool, device=self.device)
        for row, story in enumerate(self.stories):
            seen[row, story.prompt + story.token_ids] = True
        return seen
