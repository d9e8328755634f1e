"""Frozen exports, which a trigger keeps as they are, and pairs from elsewhere with their origin."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

FINAL = """
    CREATE FUNCTION annotate_export_is_final() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION 'a finished export is never changed or deleted' USING ERRCODE = 'integrity_constraint_violation';
    END $$;
    CREATE TRIGGER export_is_final BEFORE UPDATE OR DELETE ON annotate_export
    FOR EACH ROW WHEN (OLD.state = 'done') EXECUTE FUNCTION annotate_export_is_final();
"""
NOT_FINAL = """
    DROP TRIGGER export_is_final ON annotate_export;
    DROP FUNCTION annotate_export_is_final;
"""


class Migration(migrations.Migration):

    dependencies = [
        ('annotate', '0006_listening'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='Origin',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=80, unique=True)),
                ('licence', models.CharField(max_length=80)),
                ('language', models.CharField(choices=[('en', 'English'), ('zh', 'Chinese')], max_length=8)),
                ('rendered', models.BooleanField(default=False, help_text='prompts are the text that a policy reads, template and all')),
                ('file_name', models.CharField(max_length=200)),
                ('file_sha256', models.CharField(max_length=64)),
                ('imported_at', models.DateTimeField(auto_now_add=True)),
                ('count', models.PositiveIntegerField(help_text='pairs that were new')),
                ('known', models.PositiveIntegerField(default=0, help_text='pairs that were there already')),
                ('withdrawn_at', models.DateTimeField(null=True)),
                ('imported_by', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('withdrawn_by', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'ordering': ('-pk',),
            },
        ),
        migrations.CreateModel(
            name='ImportedPair',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('line', models.PositiveIntegerField(help_text='of the source file; of Parquet, the row')),
                ('turns', models.PositiveSmallIntegerField(default=1, help_text="before the answer; a system's message is none")),
                ('prompt', models.JSONField(help_text='messages before the answer: [{"role": ..., "content": ...}]')),
                ('chosen', models.TextField()),
                ('rejected', models.TextField()),
                ('margin', models.FloatField(help_text='difference of the two scores, if the source had any', null=True)),
                ('sha256', models.CharField(help_text='of prompt, chosen and rejected', max_length=64, unique=True)),
                ('origin', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='pairs', to='annotate.origin')),
            ],
            options={
                'ordering': ('pk',),
            },
        ),
        migrations.CreateModel(
            name='Export',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('purpose', models.CharField(help_text='what it is for', max_length=200)),
                ('selection', models.JSONField(help_text='what it is made of: annotate.selections.Selection')),
                ('format', models.CharField(choices=[('jsonl', 'JSONL'), ('parquet', 'Parquet'), ('csv', 'CSV'), ('argilla', 'Argilla (JSON)'), ('label_studio', 'Label Studio (JSON)')], max_length=12)),
                ('layout', models.CharField(choices=[('pairs', 'a pair a line, as text'), ('conversation', 'a pair a line, as messages'), ('grouped', 'a prompt a line, each story once')], default='pairs', max_length=12)),
                ('state', models.CharField(choices=[('waiting', 'waiting'), ('writing', 'being written'), ('done', 'finished'), ('failed', 'failed')], default='waiting', max_length=8)),
                ('attempts', models.PositiveSmallIntegerField(default=0)),
                ('done', models.PositiveIntegerField(default=0, help_text='lines written so far')),
                ('total', models.PositiveIntegerField(default=0, help_text='0: not known yet')),
                ('message', models.TextField(blank=True, help_text='why it failed, and what to do')),
                ('path', models.CharField(blank=True, help_text='name of the file in EXPORT_DIR', max_length=100)),
                ('count', models.PositiveIntegerField(help_text='pairs', null=True)),
                ('simulated', models.PositiveIntegerField(help_text='of them with votes of simulated experts', null=True)),
                ('size', models.PositiveBigIntegerField(help_text='bytes', null=True)),
                ('sha256', models.CharField(blank=True, max_length=64)),
                ('ended_at', models.DateTimeField(null=True)),
                ('made_by', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'ordering': ('-pk',),
                'constraints': [models.CheckConstraint(condition=models.Q(('purpose', ''), _negated=True), name='export_has_a_purpose'), models.CheckConstraint(condition=models.Q(('format__in', ['jsonl', 'parquet', 'csv', 'argilla', 'label_studio'])), name='export_format_known'), models.CheckConstraint(condition=models.Q(('layout', 'pairs'), models.Q(('format__in', ['jsonl', 'parquet']), ('layout__in', ['pairs', 'conversation', 'grouped'])), _connector='OR'), name='export_layout_fits_the_format'), models.CheckConstraint(condition=models.Q(('state__in', ['waiting', 'writing', 'done', 'failed'])), name='export_state_known'), models.CheckConstraint(condition=models.Q(models.Q(('count__gt', 0), ('simulated__isnull', False), ('size__gt', 0), ('state', 'done'), ('sha256__regex', '^[0-9a-f]{64}$'), models.Q(('path', ''), _negated=True)), models.Q(models.Q(('state', 'done'), _negated=True), ('count', None), ('path', ''), ('sha256', ''), ('simulated', None), ('size', None)), _connector='OR'), name='export_whole_or_not_at_all'), models.CheckConstraint(condition=models.Q(models.Q(('ended_at', None), ('state__in', ('waiting', 'writing'))), models.Q(models.Q(('state__in', ('waiting', 'writing')), _negated=True), ('ended_at__isnull', False)), _connector='OR'), name='export_ended_has_a_time'), models.CheckConstraint(condition=models.Q(('path', ''), ('path__regex', '^[A-Za-z0-9][A-Za-z0-9._-]*$'), _connector='OR'), name='export_path_is_a_name'), models.UniqueConstraint(condition=models.Q(('path', ''), _negated=True), fields=('path',), name='export_path_once')],
            },
        ),
        migrations.AddConstraint(
            model_name='origin',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('name', ''), _negated=True), models.Q(('licence', ''), _negated=True)), name='origin_has_name_and_licence'),
        ),
        migrations.AddConstraint(
            model_name='origin',
            constraint=models.CheckConstraint(condition=models.Q(('language__in', ['en', 'zh'])), name='origin_language_known'),
        ),
        migrations.AddConstraint(
            model_name='origin',
            constraint=models.CheckConstraint(condition=models.Q(('file_sha256__regex', '^[0-9a-f]{64}$')), name='origin_file_is_hashed'),
        ),
        migrations.AddConstraint(
            model_name='origin',
            constraint=models.CheckConstraint(condition=models.Q(('withdrawn_by', None), ('withdrawn_at__isnull', False), _connector='OR'), name='origin_withdrawn_has_a_time'),
        ),
        migrations.AddConstraint(
            model_name='importedpair',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('chosen', ''), _negated=True), models.Q(('rejected', ''), _negated=True)), name='imported_pair_has_stories'),
        ),
        migrations.AddConstraint(
            model_name='importedpair',
            constraint=models.CheckConstraint(condition=models.Q(('chosen', models.F('rejected')), _negated=True), name='imported_pair_of_two_stories'),
        ),
        migrations.AddConstraint(
            model_name='importedpair',
            constraint=models.CheckConstraint(condition=models.Q(('sha256__regex', '^[0-9a-f]{64}$')), name='imported_pair_is_hashed'),
        ),
        migrations.AddConstraint(
            model_name='importedpair',
            constraint=models.CheckConstraint(condition=models.Q(('turns__gte', 1)), name='imported_pair_asks_something'),
        ),
        migrations.RunSQL(FINAL, NOT_FINAL),
    ]
