"""How pairs stand in a file: rows for TRL and `datasets`, records for Argilla, tasks for Label Studio, CSV for people.

docs/data.md has an example of each, and how it is loaded.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from annotate.models import Format, Layout
from annotate.pairs import (
    ABOUT,
    VOTES,
    Edited,
    PreferencePair,
    batched,
    comparison_rows,
    count_comparison_rows,
    export_row,
    story_of,
    with_texts,
)
from annotate.votes import Vote, vote_rows
from generation.spreadsheets import csv_lines

Row = dict[str, Any]
OnLine = Callable[[int], object]

SUFFIXES = {Format.JSONL: ".jsonl", Format.PARQUET: ".parquet", Format.CSV: ".csv"}  # the others: .json
AGENT = "storyloop"  # who says it, in Argilla and Label Studio
IDS = ("chosen_ids", "rejected_ids")
TOLD = ("policy", *VOTES, *ABOUT)  # of a pair, besides its texts
BATCH = 1000  # rows of a Parquet row group


@dataclass(frozen=True)
class Content:
    """What is to be written. votes: of a pair, if they are to be told."""

    pairs: list[PreferencePair]
    reasons: bool = False
    experts: bool = False
    votes: Callable[[PreferencePair], list[Vote]] | None = None

    @property
    def with_votes(self) -> bool:
        return self.votes is not None and (self.reasons or self.experts)

    def votes_on(self, pair: PreferencePair) -> list[Vote]:
        return self.votes(pair) if self.votes else []


def suffix(name: str) -> str:
    """Of a file of this format."""
    return SUFFIXES.get(Format(name), ".json")


def lines(pairs: list[PreferencePair], layout: str) -> int:
    """How many rows, records or tasks the pairs make."""
    if layout != Layout.GROUPED:
        return len(pairs)
    return count_comparison_rows(pairs)


def write(content: Content, file: BinaryIO, *, format: str, layout: str, on_line: OnLine = lambda n: None) -> None:
    """Write all of it. `on_line` is told how many lines there are so far."""
    if format == Format.PARQUET:
        _write_parquet(_counted(_rows(content, layout), on_line), file, layout, content)
        return
    texts = {
        Format.JSONL: lambda: map(_json_line, _rows(content, layout)),
        Format.CSV: lambda: _csv(content),
        Format.ARGILLA: lambda: _array(_argilla_record(pair, content) for pair in with_texts(content.pairs)),
        Format.LABEL_STUDIO: lambda: _array(_label_studio_task(pair, content) for pair in with_texts(content.pairs)),
    }[Format(format)]()
    for text in _counted(texts, on_line):
        file.write(text.encode())


def _counted(items: Iterable[Any], on_line: OnLine) -> Iterator[Any]:
    for number, item in enumerate(items, start=1):
        yield item
        on_line(number)


def _json_line(row: Row) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"


def _array(items: Iterable[Row]) -> Iterator[str]:
    """A JSON list, an element a line: its file is never whole in memory here."""
    begin = "[\n"
    for item in items:
        yield begin + json.dumps(item, ensure_ascii=False)
        begin = ",\n"
    yield "\n]\n"


def _rows(content: Content, layout: str) -> Iterator[Row]:
    if layout == Layout.GROUPED:
        yield from comparison_rows(content.pairs)
        return
    for pair in with_texts(content.pairs):
        row = export_row(pair) if layout == Layout.PAIRS else _conversation(pair)
        yield row | _told_votes(content, pair)


def _conversation(pair: PreferencePair) -> Row:
    """As messages: whoever trains on it applies the template of their own model."""
    row = {name: value for name, value in export_row(pair).items() if name not in IDS}
    row["prompt"] = [{"role": "user", "content": story_of(pair.chosen).prompt.text}]
    for side in ("chosen", "rejected"):
        row[side] = [{"role": "assistant", "content": row[side]}]
    return row


def _told_votes(content: Content, pair: PreferencePair) -> Row:
    if not content.with_votes:
        return {}
    return {"votes": vote_rows(content.votes_on(pair), reasons=content.reasons, experts=content.experts)}


# -- for people


def _csv(content: Content) -> Iterator[str]:
    return csv_lines(_cells(content))


def _cells(content: Content) -> Iterator[list[Any]]:
    names: list[str] = []
    for row in _rows(content, Layout.PAIRS):
        if not names:
            names = [name for name in row if name not in IDS]
            yield names
        yield [json.dumps(row[name], ensure_ascii=False) if name == "votes" else row[name] for name in names]


# -- for other tools


def _left(pair: PreferencePair) -> bool:
    """Whether the chosen story stands first. Drawn, and the same whenever it is drawn: a place must say nothing."""
    key = f"{min(pair.chosen.pk, pair.rejected.pk)}-{max(pair.chosen.pk, pair.rejected.pk)}-{pair.criterion}"
    return (hashlib.sha256(key.encode()).digest()[0] % 2 == 0) == (pair.chosen.pk < pair.rejected.pk)


def _sides(pair: PreferencePair) -> Row:
    texts = [pair.chosen.text, pair.rejected.text]
    story_a, story_b = texts if _left(pair) else texts[::-1]
    return {"prompt": story_of(pair.chosen).prompt.text, "story_a": story_a, "story_b": story_b}


def _pair_id(pair: PreferencePair) -> str:
    edited = f"-{hashlib.sha256(pair.chosen.text.encode()).hexdigest()[:8]}" if isinstance(pair.chosen, Edited) else ""
    return f"{pair.chosen.pk}-{pair.rejected.pk}-{pair.criterion}{edited}"


def _told(pair: PreferencePair) -> Row:
    row = export_row(pair)
    return {name: row[name] for name in TOLD} | {"edited": "yes" if row["edited"] else "no"}


def _argilla_record(pair: PreferencePair, content: Content) -> Row:
    """A record as argilla 2.8's `Record.from_dict` takes it. The majority is a suggestion: a response is somebody's
    whom the Argilla server must know, so there are responses only with `experts`, under their pseudonyms."""
    chosen, rejected = ("a", "b") if _left(pair) else ("b", "a")
    suggestions: Row = {
        "preference": {"value": chosen, "score": round(pair.weight, 4), "agent": AGENT, "type": "human"}
    }
    responses: Row = {}
    votes = content.votes_on(pair) if content.with_votes else []
    if content.experts and votes:
        responses["preference"] = [
            {"value": chosen if vote.agrees else rejected, "user_id": str(vote.expert), "status": "submitted"}
            for vote in votes
        ]
    if content.reasons and (said := "\n\n".join(vote.reason for vote in votes if vote.reason)):
        suggestions["reason"] = {"value": said, "agent": AGENT, "type": "human"}
    return {
        "id": _pair_id(pair),
        "fields": _sides(pair),
        "metadata": _told(pair),
        "suggestions": suggestions,
        "responses": responses,
        "vectors": {},
    }


def _label_studio_task(pair: PreferencePair, content: Content) -> Row:
    """A task for a Pairwise tag: the majority as prediction, each vote as an annotation of nobody's."""
    chosen, rejected = ("left", "right") if _left(pair) else ("right", "left")
    votes = [chosen] * pair.judgements_for + [rejected] * pair.judgements_against
    majority = {"model_version": AGENT, "score": round(pair.weight, 4), "result": [_selected(chosen)]}
    return {
        "data": {"pair": _pair_id(pair), **_sides(pair), **_told(pair), **_told_votes(content, pair)},
        "predictions": [majority],
        "annotations": [{"result": [_selected(side)]} for side in votes],
    }


def _selected(side: str) -> Row:
    # the importer wants a tag of the story's here, not the Pairwise tag itself
    return {"from_name": "preference", "to_name": "story_a", "type": "pairwise", "value": {"selected": side}}


# -- Parquet


def _write_parquet(rows: Iterable[Row], file: BinaryIO, layout: str, content: Content) -> None:
    import pyarrow as pa  # 0.2 s, and no page needs it
    from pyarrow import parquet

    schema = _schema(layout, content)
    with parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        for batch in batched(rows, BATCH):
            writer.write_table(pa.Table.from_pylist(batch, schema=schema))


def _schema(layout: str, content: Content) -> Any:
    """Stated, not guessed: of the first rows every list may be empty."""
    import pyarrow as pa

    text, whole = pa.string(), pa.int64()
    ids = pa.list_(pa.int32())
    votes = [("weight", pa.float64()), ("criterion", text), *((name, whole) for name in VOTES[2:])]
    about = [(name, text) for name in ABOUT]
    if layout == Layout.GROUPED:
        story = [("text", text), ("token_ids", ids), ("finish_reason", text), ("id", whole), ("edited", pa.bool_())]
        pair = [("chosen", whole), ("rejected", whole), *votes]
        completions, pairs = pa.list_(pa.struct([*story, ("policy", text)])), pa.list_(pa.struct(pair))
        return pa.schema(
            [("prompt", text), ("completions", completions), ("pairs", pairs), ("prompt_id", whole), *about]
        )
    messages = pa.list_(pa.struct([("role", text), ("content", text)]))
    told = messages if layout == Layout.CONVERSATION else text
    columns = [("prompt", told), ("chosen", told), ("rejected", told)]
    if layout == Layout.PAIRS:
        columns += [(name, ids) for name in IDS]
    columns += [*votes, *((name, whole) for name in ("prompt_id", "chosen_id", "rejected_id"))]
    columns += [("edited", pa.bool_()), ("policy", text), *about]
    if content.with_votes:
        columns.append(("votes", pa.list_(pa.struct(_vote_columns(content)))))
    return pa.schema(columns)


def _vote_columns(content: Content) -> list[tuple[str, Any]]:
    import pyarrow as pa

    text, texts = pa.string(), pa.list_(pa.string())
    columns = [("prefers", text), ("simulated", pa.bool_())]
    if content.experts:
        columns += [("expert", text), ("audience", text)]
    if content.reasons:
        columns += [("reason", text), ("reasons_for", texts), ("reasons_against", texts)]
    return columns
