"""What the new columns say of the rows that were there before."""

from django.db import migrations

PLACES = """
    UPDATE annotate_place AS place
    SET language = prompt.language,
        wanted = comparison.closed_at IS NULL AND (place.assignment_id IS NULL OR place.held_until IS NOT NULL)
    FROM annotate_comparison AS comparison, generation_prompt AS prompt
    WHERE comparison.id = place.comparison_id AND prompt.id = comparison.prompt_id
"""
ANSWERED = """
    UPDATE annotate_assignment AS assignment
    SET answered_at = judgement.created_at, skipped_at = NULL, version = 1
    FROM annotate_judgement AS judgement
    WHERE judgement.assignment_id = assignment.id AND assignment.version = 0
"""
JUDGED = """
    UPDATE annotate_expert AS expert
    SET judged = (SELECT count(*) FROM annotate_assignment AS assignment
                  WHERE assignment.expert_id = expert.id AND assignment.answered_at IS NOT NULL)
"""
HISTORY = """
    INSERT INTO annotate_revision (assignment_id, number, act, key, fields, created_at)
    SELECT judgement.assignment_id, 1, 'submitted', gen_random_uuid(),
           jsonb_build_object('verdict', jsonb_build_array(judgement.verdict),
                              'reason', jsonb_build_array(judgement.reason))
           || coalesce((SELECT jsonb_object_agg('rank_' || rank.shown_position, jsonb_build_array(rank.rank::text))
                        FROM annotate_rank AS rank
                        WHERE rank.judgement_id = judgement.id AND judgement.verdict = 'ranked'), '{}'::jsonb),
           judgement.created_at
    FROM annotate_judgement AS judgement
    ON CONFLICT DO NOTHING
"""


class Migration(migrations.Migration):
    dependencies = [("annotate", "0002_judging")]
    operations = [migrations.RunSQL(sql, migrations.RunSQL.noop) for sql in (PLACES, ANSWERED, JUDGED, HISTORY)]
