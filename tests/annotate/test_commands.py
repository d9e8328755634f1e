import hashlib
import json
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from annotate.models import Comparison, Export, Judgement, Rank
from tests.factories import judge_by_story, make_comparison, make_expert, make_policy

pytestmark = pytest.mark.django_db


def run(*args: object) -> str:
    out = StringIO()
    call_command(*map(str, args), stdout=out)
    return out.getvalue()


def judged(comparison: Comparison, *, simulated: bool = False) -> None:
    judge_by_story(make_expert(simulated=simulated), list(comparison.stories.order_by("pk")))


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_export_pairs_writes_the_file_and_says_what_is_in_it(tmp_path: Path) -> None:
    judged(make_comparison(3))
    path = tmp_path / "pairs.jsonl"
    said = run("export_pairs", path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert said == f"3 pairs (0 with simulated votes) in {path}, SHA-256 {digest}\n"


def test_export_pairs_says_how_many_hold_simulated_votes(tmp_path: Path) -> None:
    judged(make_comparison(3), simulated=True)
    assert run("export_pairs", tmp_path / "pairs.jsonl").startswith("3 pairs (3 with simulated votes)")


def test_export_pairs_can_leave_simulated_experts_out(tmp_path: Path) -> None:
    comparison = make_comparison(3)
    judged(comparison, simulated=True)
    with pytest.raises(CommandError, match="No judgement fits"):
        run("export_pairs", tmp_path / "pairs.jsonl", "--people-only")


def test_export_pairs_can_take_one_policys_stories(tmp_path: Path) -> None:
    judged(make_comparison(2, policy=make_policy("wanted")))
    make_comparison(2)
    run("simulate_experts")
    run("export_pairs", tmp_path / "pairs.jsonl", "--policy", "wanted")
    assert {row["policy"] for row in rows(tmp_path / "pairs.jsonl")} == {"wanted"}


def test_export_pairs_can_write_a_line_a_prompt(tmp_path: Path) -> None:
    judged(make_comparison(3))
    run("export_pairs", tmp_path / "grouped.jsonl", "--grouped")
    assert len((tmp_path / "grouped.jsonl").read_text().splitlines()) == 1


def test_export_pairs_refuses_an_unknown_policy(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="no policy nobody"):
        run("export_pairs", tmp_path / "pairs.jsonl", "--policy", "nobody")


def test_export_pairs_never_overwrites(tmp_path: Path) -> None:
    judged(make_comparison(2))
    path = tmp_path / "pairs.jsonl"
    path.write_text("earlier\n")
    with pytest.raises(CommandError, match="never overwrites"):
        run("export_pairs", path)
    assert path.read_text() == "earlier\n"
    assert not Export.objects.exists()


def test_export_pairs_into_a_directorys_name_is_a_plain_error(tmp_path: Path) -> None:
    judged(make_comparison(2))
    (tmp_path / "pairs").mkdir()
    with pytest.raises(CommandError, match="directory"):
        run("export_pairs", tmp_path / "pairs")


def test_a_failed_export_leaves_no_half_file(tmp_path: Path) -> None:
    judged(make_comparison(2))
    (tmp_path / "pairs").mkdir()
    with pytest.raises(CommandError):
        run("export_pairs", tmp_path / "pairs")
    assert [path.name for path in tmp_path.iterdir()] == ["pairs"]


def test_simulate_experts_judges_what_is_open() -> None:
    make_comparison()
    assert run("simulate_experts") == "3 simulated judgements.\n"


def test_simulate_experts_stops_at_the_limit() -> None:
    make_comparison()
    assert run("simulate_experts", "--limit", 2) == "2 simulated judgements.\n"


def test_simulate_experts_asks_the_audiences_named() -> None:
    make_comparison()
    run("simulate_experts", "--audience", "parent", "--audience", "writer")
    judged_by = Judgement.objects.values_list("assignment__expert__audience", flat=True)
    assert sorted(judged_by) == ["parent", "writer"]


def test_simulate_experts_knows_no_other_audience() -> None:
    with pytest.raises(CommandError, match="invalid choice: 'lawyer'"):
        run("simulate_experts", "--audience", "lawyer")


def test_simulate_experts_says_when_there_are_no_stories() -> None:
    with pytest.raises(CommandError, match="nothing to judge"):
        run("simulate_experts")


def test_simulate_experts_says_when_all_is_judged() -> None:
    make_comparison()
    run("simulate_experts")
    assert run("simulate_experts") == "0 simulated judgements.\n"
    assert Rank.objects.count() == 9
