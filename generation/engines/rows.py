"""Keys and values of stories of different lengths, one row each.

Every row begins at column 0, whatever stands in the others: a story can leave and another take its
place without moving the rest. A row's columns behind its length hold what nobody looks at. The
buffers are read whole, as a processor reads memory without gaps quickest, so they grow and
shrink with the longest row.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin, get_layer_types_and_kwargs

from generation.engines.values import EngineError

FULL, SLIDING = "full_attention", "sliding_attention"  # as transformers names kinds of layers
COLUMNS = 64  # buffers have a multiple of so many
Layers = list[tuple[torch.Tensor, torch.Tensor]]  # keys and values of one prompt, [heads, tokens, dim]


class RowCache(Cache):
    """transformers' cache for one token a row and step; rows 0 to `count` are being written."""

    def __init__(self, like: Layers) -> None:
        self.count = self.columns = 0
        self.index = self.lengths = torch.empty(0, dtype=torch.long)
        self.kept = [_RowLayer(self, pair) for pair in like]
        super().__init__(layers=list(self.kept))

    def put(self, row: int, prompt: Layers, copies: int) -> None:
        """Write a prompt's keys and values to `copies` rows from `row` on."""
        for layer, pair in zip(self.kept, prompt, strict=True):
            for buffer, read in zip(layer.buffers, pair, strict=True):
                buffer[row : row + copies, :, : read.shape[1]] = read

    def move(self, sources: list[int], targets: list[int]) -> None:
        """Copy rows over others."""
        for layer in self.kept:
            for buffer in layer.buffers:
                buffer[targets] = buffer[sources]

    def reserve(self, rows: int, length: int) -> None:
        """Have room for `rows` rows of at most `length` tokens, and not much more columns than that."""
        columns = -(-length // COLUMNS) * COLUMNS
        have = len(self.kept[0].buffers[0])
        if rows > have or not columns <= self.columns < 2 * columns:
            for layer in self.kept:
                layer.buffers = [_resized(buffer, max(rows, have), columns) for buffer in layer.buffers]
            self.columns = columns

    def begin_step(self, lengths: Sequence[int], device: str) -> None:
        """The next token of row r goes to column lengths[r]; rows behind len(lengths) are free."""
        self.count = len(lengths)
        self.reserve(self.count, max(lengths) + 1)
        self.lengths = torch.tensor(lengths, device=device)
        self.index = torch.arange(self.count, device=device)


class _RowLayer(CacheLayerMixin):
    """buffers: the keys and the values of one layer, each [rows, heads, columns, dim]."""

    def __init__(self, rows: RowCache, like: tuple[torch.Tensor, torch.Tensor]) -> None:
        super().__init__()
        self.rows = rows
        self.buffers = [read.new_empty(0, len(read), 0, read.shape[-1]) for read in like]
        self.is_initialized = True

    def update(self, key_states: Any, value_states: Any, *_: Any, **__: Any) -> tuple[torch.Tensor, torch.Tensor]:
        keys, values = self.buffers
        keys[self.rows.index, :, self.rows.lengths] = key_states[:, :, 0]
        values[self.rows.index, :, self.rows.lengths] = value_states[:, :, 0]
        return keys[: self.rows.count], values[: self.rows.count]

    def lazy_initialization(self, key_states: Any, value_states: Any) -> None:
        """Nothing: RowCache.reserve has done it."""

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.rows.columns, 0

    def get_seq_length(self) -> int:
        return self.rows.columns - 1

    def get_max_length(self) -> int:
        return -1


def _resized(buffer: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """A copy; the new places hold numbers, since attention multiplies what it leaves out by 0."""
    found = buffer.new_zeros(rows, buffer.shape[1], columns, buffer.shape[3])
    kept = min(columns, buffer.shape[2])
    found[: len(buffer), :, :kept] = buffer[:, :, :kept]
    return found


class Masks:
    """What a row's next token may look at: its own columns, and in layers with a sliding window the last of these."""

    def __init__(self, model: Any) -> None:
        config = model.config.get_text_config(decoder=True)
        kinds, given = get_layer_types_and_kwargs(config)
        self.kinds = set(kinds)
        if unknown := self.kinds - {FULL, SLIDING}:
            raise EngineError(
                f"A model of type {config.model_type} has layers of a kind ({', '.join(sorted(unknown))}) that the "
                "embedded engine does not write with. Set STORYLOOP_ENGINE=vllm."
            )
        self.window = next((some["sliding_window"] for some in given if some), 0)
        self.dtype = model.dtype
        self.additive = config._attn_implementation == "eager"
        # GPT-Neo has masks of its own, which take the last column for the next token's
        self.neo = [(m, m.bias) for m in model.modules() if type(m).__name__ == "GPTNeoSelfAttention"]

    @contextmanager
    def on(self, rows: RowCache) -> Iterator[Any]:
        """The mask for one step, as transformers' models take it: [rows, columns], or where windows slide
        4 dimensions or a dict of these. GPT-Neo's own masks are replaced meanwhile."""
        columns = torch.arange(rows.columns, device=rows.lengths.device)
        own = columns <= rows.lengths[:, None]
        for module, _ in self.neo:
            local = module.attention_type == "local"
            found = own & _last(columns, rows, module.config.window_size) if local else own
            module.bias = found[:, None, None].expand(-1, 1, rows.columns, -1)
        try:
            yield self._sliding(own, own & _last(columns, rows, self.window)) if self.window else own.long()
        finally:
            for module, bias in self.neo:
                module.bias = bias

    def _sliding(self, own: torch.Tensor, last: torch.Tensor) -> Any:
        masks = {FULL: own, SLIDING: last}
        ready = {kind: self._ready(masks[kind][:, None, None]) for kind in self.kinds}
        return ready if len(ready) > 1 else ready.popitem()[1]

    def _ready(self, mask: torch.Tensor) -> torch.Tensor:
        return torch.where(mask, 0.0, torch.finfo(self.dtype).min).to(self.dtype) if self.additive else mask


def _last(columns: torch.Tensor, rows: RowCache, window: int) -> torch.Tensor:
    return columns > rows.lengths[:, None] - window
