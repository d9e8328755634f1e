"""What lies before whom, set up by SQL: a page is for what is tested."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.browser.conftest import Demo

EXPERT = "(SELECT e.id FROM annotate_expert e JOIN auth_user u ON u.id = e.user_id WHERE u.username = %s)"
UNANSWERED = f"SELECT id FROM annotate_assignment WHERE expert_id = {EXPERT} AND answered_at IS NULL"


def without_chance(demo: Demo) -> None:
    """Silent checks come by chance: none here."""
    demo.change(
        "INSERT INTO annotate_campaign (id, criteria, criteria_required, practice, gold_every, repeat_every, "
        "guidelines_en, guidelines_zh) VALUES (1, %s, false, true, 0, 0, '', '') "
        "ON CONFLICT (id) DO UPDATE SET gold_every = 0, repeat_every = 0",
        ["language_fit", "structure", "educational_value"],
    )


def make_expert(demo: Demo, name: str) -> None:
    """ "parent-2" is a parent with the password of "parent", who has practised."""
    like = name.split("-", maxsplit=1)[0]
    demo.change(
        "INSERT INTO auth_user (password, is_superuser, username, first_name, last_name, email, is_staff, is_active, "
        "date_joined) SELECT password, false, %s, '', '', '', false, true, now() FROM auth_user WHERE username = %s "
        "ON CONFLICT DO NOTHING",
        name, like,
    )  # fmt: skip
    demo.change(
        "INSERT INTO annotate_expert (user_id, audience, simulated, languages, keys_enabled, judged, practised_at) "
        "SELECT id, %s, false, '{en,zh}', true, 0, now() FROM auth_user WHERE username = %s ON CONFLICT DO NOTHING",
        like, name,
    )  # fmt: skip


def unpractised(demo: Demo, name: str) -> str:
    """A new expert, before whom the calibration set lies."""
    make_expert(demo, name)
    demo.change(f"DELETE FROM annotate_practiceanswer WHERE expert_id = {EXPERT}", name)
    demo.change(f"UPDATE annotate_expert SET practised_at = NULL WHERE id = {EXPERT}", name)
    return name


def clear(demo: Demo, name: str) -> None:
    """An expert who has practised, and has nothing begun."""
    demo.change(
        "UPDATE annotate_expert SET practised_at = now(), keys_enabled = true, languages = '{en,zh}' "
        f"WHERE id = {EXPERT}",
        name,
    )
    demo.change(
        "UPDATE annotate_place SET assignment_id = NULL, held_until = NULL "
        f"WHERE held_until IS NOT NULL AND assignment_id IN ({UNANSWERED})",
        name,
    )
    demo.change(f"DELETE FROM annotate_draft WHERE assignment_id IN ({UNANSWERED})", name)
    demo.change(f"UPDATE annotate_assignment SET skipped_at = now() WHERE id IN ({UNANSWERED})", name)


def untouched(demo: Demo) -> int:
    """A comparison that nobody has answered or holds, from the far end of the queue."""
    return demo.one(
        "SELECT c.id FROM annotate_comparison c WHERE c.closed_at IS NULL AND c.purpose = 'preference' AND "
        "NOT EXISTS (SELECT FROM annotate_assignment a WHERE a.comparison_id = c.id AND a.skipped_at IS NULL) AND "
        "NOT EXISTS (SELECT FROM annotate_comparison_stories cs JOIN generation_story s ON s.id = cs.story_id "
        "WHERE cs.comparison_id = c.id AND s.withdrawn_at IS NOT NULL) ORDER BY draw_order DESC LIMIT 1"
    )


def hand_out(demo: Demo, name: str, comparison: int) -> str:
    """Put a comparison before an expert as the queue does; returns its key. It comes as their next."""
    key = demo.one(
        "WITH given AS (INSERT INTO annotate_assignment (key, comparison_id, expert_id, kind, shown, minimum_seconds, "
        f"opened_at, version) SELECT gen_random_uuid(), %s, {EXPERT}, 'ordinary', array_agg(story_id ORDER BY "
        "story_id DESC), 0, now(), 0 FROM annotate_comparison_stories WHERE comparison_id = %s RETURNING key) "
        "SELECT key::text FROM given",
        comparison, name, comparison,
    )  # fmt: skip
    demo.change(
        "UPDATE annotate_place SET assignment_id = (SELECT id FROM annotate_assignment WHERE key = %s), "
        "held_until = now() + interval '1 hour' WHERE id = (SELECT id FROM annotate_place WHERE comparison_id = %s "
        "AND assignment_id IS NULL AND wanted LIMIT 1)",
        key, comparison,
    )  # fmt: skip
    return key


SECRET = "secret-policy"
SECRET_NUMBERS = 730_000_000  # ids and seeds from here on: no figure on a page looks like them


def write_comparison(demo: Demo, texts: Sequence[str], language: str = "en", places: int = 1) -> int:
    """Two policies' stories with these texts, put before experts blind. No pair is ever made of them."""
    _write_secret_policy(demo)
    prompt = demo.one(
        "SELECT id FROM generation_prompt p WHERE language = %s AND NOT EXISTS (SELECT FROM annotate_comparison c "
        f"WHERE c.prompt_id = p.id AND c.policy_id = {SECRET_NUMBERS}) ORDER BY id LIMIT 1",
        language,
    )
    number = SECRET_NUMBERS + 10 * prompt
    demo.change(
        "INSERT INTO annotate_comparison (id, prompt_id, purpose, policy_id, baseline_id, sample_index, created_at) "
        f"SELECT %s, %s, 'evaluation', {SECRET_NUMBERS}, min(id), 0, now() FROM generation_policy",
        number, prompt,
    )  # fmt: skip
    for index, text in enumerate(texts):
        demo.change(
            "INSERT INTO generation_story (id, prompt_id, policy_id, sample_index, rendered_prompt, text, token_ids, "
            "finish_reason, temperature, top_p, min_p, seed, draws, weights_hash, created_at) VALUES (%s, %s, "
            f"{SECRET_NUMBERS}, %s, 'secret-rendering', %s, '{{1,2}}', 'stop', 0.7375, 0.9375, 0.0375, %s, 1, "
            "'5ec2e7c0ffee', now())",
            number + index, prompt, index, text, number + index,
        )  # fmt: skip
        demo.change(
            "INSERT INTO annotate_comparison_stories (comparison_id, story_id) VALUES (%s, %s)", number, number + index
        )
    demo.change(
        "INSERT INTO annotate_place (comparison_id, number, draw_order, language, wanted) "
        "SELECT %s, n, 2, %s, true FROM generate_series(1, %s) n",
        number, language, places,
    )  # fmt: skip
    return number


def _write_secret_policy(demo: Demo) -> None:
    demo.change(
        "INSERT INTO generation_policy (id, name, path, adapter_path, weights_hash, is_current, created_at) "
        f"VALUES ({SECRET_NUMBERS}, %s, '/secret-models/weights', '', '5ec2e7c0ffee', false, now()) "
        "ON CONFLICT DO NOTHING",
        SECRET,
    )


def judge(demo: Demo, name: str, comparison: int, ranks: Sequence[int]) -> None:
    """An answer: the rank of each story, the stories by their number."""
    make_expert(demo, name)
    key = hand_out(demo, name, comparison)
    demo.change("UPDATE annotate_assignment SET answered_at = now() WHERE key = %s", key)
    demo.change(
        "UPDATE annotate_place SET held_until = NULL, wanted = false WHERE assignment_id = "
        "(SELECT id FROM annotate_assignment WHERE key = %s)",
        key,
    )
    demo.change(
        "INSERT INTO annotate_judgement (assignment_id, verdict, reason, reasons_for, reasons_against, extra, hurried, "
        "created_at, changed_at) SELECT id, 'ranked', %s, '{}', '{}', false, false, now(), now() "
        "FROM annotate_assignment WHERE key = %s",
        f"So says {name}.", key,
    )  # fmt: skip
    demo.change(
        "INSERT INTO annotate_rank (judgement_id, story_id, rank, shown_position) "
        "SELECT j.id, shown.story, (%s::int[])[row_number() OVER (ORDER BY shown.story)], shown.position "
        "FROM annotate_judgement j JOIN annotate_assignment a ON a.id = j.assignment_id, "
        "unnest(a.shown) WITH ORDINALITY AS shown (story, position) WHERE a.key = %s",
        list(ranks), key,
    )  # fmt: skip


def ranks_of(demo: Demo, name: str) -> dict[int, int]:
    """{shown position: rank} of the expert's newest judgement."""
    return dict(demo.query(f"SELECT shown_position, rank FROM annotate_rank WHERE judgement_id = ({_NEWEST})", name))


def newest(demo: Demo, name: str, column: str) -> object:
    """A column of the expert's newest judgement."""
    return demo.one(f"SELECT {column} FROM annotate_judgement WHERE id = ({_NEWEST})", name)


def count(demo: Demo, name: str) -> int:
    """How many judgements the expert has given."""
    return demo.one(
        "SELECT count(*) FROM annotate_judgement j JOIN annotate_assignment a ON a.id = j.assignment_id "
        f"WHERE a.expert_id = {EXPERT}",
        name,
    )


_NEWEST = (
    "SELECT max(j.id) FROM annotate_judgement j JOIN annotate_assignment a ON a.id = j.assignment_id "
    f"WHERE a.expert_id = {EXPERT}"
)
