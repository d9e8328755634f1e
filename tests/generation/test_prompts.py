"""Importing prompts: all rows or none, each fault with its line."""

import json
import random
from collections import Counter
from pathlib import Path

import pytest

from generation import prompts
from generation.models import Prompt
from generation.prompts import BadPrompts, Imported, import_prompts

pytestmark = pytest.mark.django_db

SHIPPED = Path(prompts.__file__).parent / "data" / "shipped_prompts.jsonl"
GOOD = {
    "text": "Write a fable about a brave fox.",
    "language": "en",
    "theme": "courage",
    "story_type": "fable",
    "age_band": "5-6",
    "split": "evaluation",
}
HEADER = "text,language,theme,story_type,age_band,split\n"


def row(**changes: object) -> str:
    """One line of JSON: GOOD with `changes`; a field changed to ... is left out."""
    return json.dumps({k: v for k, v in {**GOOD, **changes}.items() if v is not ...}, ensure_ascii=False)


def write(directory: Path, *lines: str, name: str = "prompts.jsonl") -> Path:
    path = directory / name
    path.write_bytes("\n".join(lines).encode())
    return path


def fault_of(path: Path) -> str:
    """The one fault of a file; and nothing of the file may be stored."""
    with pytest.raises(BadPrompts) as refused:
        import_prompts(path)
    assert not Prompt.objects.exists()
    assert len(refused.value.faults) == 1
    return refused.value.faults[0]


def test_a_jsonl_row_becomes_a_prompt_with_every_field(tmp_path):
    assert import_prompts(write(tmp_path, row())) == Imported(new=1, known=0)
    assert Prompt.objects.values(*GOOD).get() == GOOD


def test_a_csv_row_becomes_a_prompt_with_every_field(tmp_path):
    line = "Write a fable about a brave fox.,en,courage,fable,5-6,evaluation"
    import_prompts(write(tmp_path, HEADER + line, name="prompts.csv"))
    assert Prompt.objects.values(*GOOD).get() == GOOD


def test_a_quoted_csv_text_may_hold_commas_quotes_and_line_ends(tmp_path):
    line = '"Write, please:\na ""fable"".",en,courage,fable,5-6,train'
    import_prompts(write(tmp_path, HEADER + line, name="prompts.csv"))
    assert Prompt.objects.get().text == 'Write, please:\na "fable".'


@pytest.mark.parametrize("name", ["p.jsonl", "p.csv", "p.ndjson", "P.JSONL"])
def test_a_byte_order_mark_is_not_part_of_the_first_row(tmp_path, name):
    line = row() if "json" in name.lower() else HEADER + "A fox.,en,courage,fable,5-6,train"
    assert import_prompts(write(tmp_path, "\ufeff" + line, name=name)).new == 1


def test_windows_line_ends_and_empty_lines_are_no_fault(tmp_path):
    path = write(tmp_path, row(text="One fox.") + "\r", "\r", row(text="Two foxes.") + "\r", "")
    import_prompts(path)
    assert list(Prompt.objects.values_list("text", flat=True)) == ["One fox.", "Two foxes."]


@pytest.mark.parametrize("split", [..., "", None])
def test_a_prompt_without_a_split_is_for_training(tmp_path, split):
    import_prompts(write(tmp_path, row(split=split)))
    assert Prompt.objects.get().split == "train"


@pytest.mark.parametrize(
    ("bad", "fault"),
    [
        ("{not json", "line 2: not valid JSON"),
        ("[1, 2]", "line 2: not a JSON object"),
        (row(text="Two.", theme=...), "line 2: theme is missing or empty"),
        (row(text="  "), "line 2: text is missing or empty"),
        (row(text="Two.", language="fr"), "line 2: language is 'fr': give en or zh"),
        (row(text="Two.", split="test"), "line 2: split is 'test': give train or evaluation"),
        (row(text="Two.", mood="merry"), "line 2: unknown field mood; known are text, language"),
        (row(text=" Write a fable about a brave fox. "), "line 2: the same text as line 1"),
        (row(text="x" * 4001), "line 2: text is longer than 4000 characters"),
        (row(text="Two.", theme="x" * 61), "line 2: theme is longer than 60 characters"),
        (row(text="Two.", age_band="x" * 13), "line 2: age_band is longer than 12 characters"),
    ],
)
def test_a_bad_row_is_named_by_its_line_and_its_fault(tmp_path, bad, fault):
    assert fault_of(write(tmp_path, row(), bad)).startswith(fault)


def test_every_fault_of_a_file_is_told_at_once(tmp_path):
    path = write(tmp_path, row(language="fr"), row(), "{", row(text="Three.", split="dev"))
    with pytest.raises(BadPrompts) as refused:
        import_prompts(path)
    assert [fault.split(":")[0] for fault in refused.value.faults] == ["line 1", "line 3", "line 4"]


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        ("A fox.,en,courage,fable", "line 2: age_band is missing or empty"),
        ("A fox.,en,courage,fable,5-6,train,more", "line 2: more fields than the header has"),
        ("A fox.,de,courage,fable,5-6,train", "line 2: language is 'de': give en or zh"),
    ],
)
def test_a_bad_csv_row_is_named_by_its_line_and_its_fault(tmp_path, rows, fault):
    assert fault_of(write(tmp_path, HEADER + rows, name="prompts.csv")) == fault


def test_a_csv_header_is_told_which_columns_it_lacks(tmp_path):
    path = write(tmp_path, "text,language,theme", "A fox.,en,courage", name="prompts.csv")
    assert fault_of(path) == "line 1: the header lacks story_type, age_band"


def test_a_file_that_is_not_utf8_is_told_where_and_what_to_do(tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_bytes("Un café.".encode("latin-1"))
    assert fault_of(path) == "prompts.jsonl is not UTF-8 text (byte 6): save it as UTF-8."


def test_a_file_of_an_unknown_kind_is_refused(tmp_path):
    assert fault_of(write(tmp_path, row(), name="prompts.txt")) == "prompts.txt is neither .jsonl nor .csv."


def test_a_spreadsheet_is_refused_for_its_kind_and_not_for_its_bytes(tmp_path):
    path = tmp_path / "prompts.xlsx"
    path.write_bytes(b"PK\x03\x04\x14\x00\x08\xff")
    assert fault_of(path) == "prompts.xlsx is neither .jsonl nor .csv."


@pytest.mark.parametrize(
    ("name", "fault"), [("none.jsonl", "There is no file"), ("folder.csv", "cannot be read: Is a directory")]
)
def test_a_path_that_is_no_file_is_told(tmp_path, name, fault):
    (tmp_path / "folder.csv").mkdir()
    assert fault in fault_of(tmp_path / name)


def test_an_empty_file_holds_no_prompts(tmp_path):
    assert fault_of(write(tmp_path, "")) == "prompts.jsonl holds no prompts."


def test_importing_again_adds_the_new_rows_and_leaves_the_known_ones(tmp_path):
    import_prompts(write(tmp_path, row()))
    before = Prompt.objects.get()
    assert import_prompts(write(tmp_path, row(theme="honesty"), row(text="Two."))) == Imported(new=1, known=1)
    assert Prompt.objects.filter(pk=before.pk).values(*GOOD).get() == GOOD


def test_a_prompt_of_the_longest_length_is_imported(tmp_path):
    rng = random.Random(1)
    text = "".join(chr(rng.randrange(0x4E00, 0x9FFF)) for _ in range(4000))
    assert import_prompts(write(tmp_path, row(text=text, language="zh"))).new == 1


def test_half_a_character_in_json_is_a_fault_with_its_line(tmp_path):
    assert fault_of(write(tmp_path, '{"text": "A \\ud83d fox.", ' + row(text=...)[1:])).startswith("line 1: text")


def test_a_nul_character_is_told_as_such(tmp_path):
    bad = json.dumps({**GOOD, "text": "A \x00 fox."})
    assert "longer than" not in fault_of(write(tmp_path, bad))


def test_a_text_that_is_a_list_is_a_fault(tmp_path):
    assert fault_of(write(tmp_path, row(text=["A", "fox"]))).startswith("line 1: text")


@pytest.mark.parametrize("mark", ["\u2028", "\x85", "\x0b"])
def test_a_csv_row_ends_only_at_a_line_end(tmp_path, mark):
    import_prompts(write(tmp_path, HEADER + f"A{mark}fox.,en,courage,fable,5-6,train", name="prompts.csv"))
    assert Prompt.objects.get().text == f"A{mark}fox."


def test_the_shipped_prompts_are_at_least_120_and_half_in_each_language():
    done = import_prompts(SHIPPED)
    languages = Counter(Prompt.objects.values_list("language", flat=True))
    assert done.new >= 120
    assert languages == {"en": done.new / 2, "zh": done.new / 2}


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("field", ["theme", "story_type", "age_band"])
def test_the_shipped_evaluation_prompts_cover_what_is_trained_on(language, field):
    import_prompts(SHIPPED)
    of = Prompt.objects.filter(language=language)
    train, held_out = (set(of.filter(split=s).values_list(field, flat=True)) for s in ("train", "evaluation"))
    assert train == held_out
    assert len(train) > 1


def test_ten_thousand_prompts_are_imported_at_once_and_known_again(tmp_path):
    path = write(tmp_path, *(row(text=f"Write a story about fox {number}.") for number in range(10_000)))
    assert import_prompts(path).new == 10_000
    assert import_prompts(path).known == 10_000
