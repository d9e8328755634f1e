"""Rules that hold once the old rows are filled in, and a history that cannot be rewritten."""

from django.db import migrations, models

ADD_ONLY = """
    CREATE FUNCTION annotate_revision_is_add_only() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION 'a revision is never changed or deleted' USING ERRCODE = 'integrity_constraint_violation';
    END $$;
    CREATE TRIGGER revision_is_add_only BEFORE UPDATE OR DELETE ON annotate_revision
    FOR EACH ROW EXECUTE FUNCTION annotate_revision_is_add_only();
"""
NOT_ADD_ONLY = """
    DROP TRIGGER revision_is_add_only ON annotate_revision;
    DROP FUNCTION annotate_revision_is_add_only;
"""


class Migration(migrations.Migration):
    dependencies = [("annotate", "0003_fill_judging")]
    operations = [
        migrations.AddConstraint(
            model_name='place',
            constraint=models.CheckConstraint(condition=models.Q(('wanted', False), ('assignment', None), ('held_until__isnull', False), _connector='OR'), name='place_filled_is_not_wanted'),
        ),
        migrations.AddConstraint(
            model_name="place",
            constraint=models.CheckConstraint(
                condition=models.Q(("language__in", ["en", "zh"])), name="place_language_known"
            ),
        ),
        migrations.RunSQL(ADD_ONLY, NOT_ADD_ONLY),
    ]
