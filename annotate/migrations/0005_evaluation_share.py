from django.db import migrations, models

PLACES = """
    UPDATE annotate_place AS place SET evaluation = true
    FROM annotate_comparison AS comparison
    WHERE comparison.id = place.comparison_id AND comparison.purpose = 'evaluation'
"""


class Migration(migrations.Migration):
    dependencies = [("annotate", "0004_guard_judging")]

    operations = [
        migrations.AddField(
            model_name="campaign",
            name="evaluation_share",
            field=models.PositiveSmallIntegerField(db_default=30, default=30, help_text="percent of the work that is new against old, while there is both"),
        ),
        migrations.AddConstraint(
            model_name="campaign",
            constraint=models.CheckConstraint(condition=models.Q(("evaluation_share__lte", 100)), name="campaign_share_is_a_percentage"),
        ),
        migrations.AddField(
            model_name="place",
            name="evaluation",
            field=models.BooleanField(db_default=False, default=False, help_text="new against old"),
        ),
        migrations.RunSQL(PLACES, migrations.RunSQL.noop),
        migrations.RemoveIndex(model_name="place", name="place_queue"),
        migrations.AddIndex(
            model_name="place",
            index=models.Index(condition=models.Q(("wanted", True)), fields=["evaluation", "number", "draw_order"], name="place_queue"),
        ),
    ]
