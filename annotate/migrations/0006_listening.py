"""Listening sessions with children."""

import uuid

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('annotate', '0005_evaluation_share'),
        ('generation', '0003_writing_runs'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='ListeningSession',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('key', models.UUIDField(default=uuid.uuid4, editable=False, unique=True)),
                ('language', models.CharField(choices=[('en', 'English'), ('zh', 'Chinese')], max_length=8)),
                ('age_band', models.CharField(choices=[('5-6', '5-6 years'), ('7-8', '7-8 years')], max_length=4)),
                ('read_by', models.CharField(choices=[('adult', 'I read them myself'), ('browser', 'A voice of this device reads them')], default='adult', max_length=8)),
                ('consented_at', models.DateTimeField()),
                ('consent_version', models.CharField(help_text='of the text that the adult agreed to', max_length=12)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('ended_at', models.DateTimeField(blank=True, null=True)),
                ('adult', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='listening_sessions', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'ordering': ('-pk',),
            },
        ),
        migrations.CreateModel(
            name='Listening',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('key', models.UUIDField(default=uuid.uuid4, editable=False, unique=True)),
                ('number', models.PositiveSmallIntegerField(help_text='in the session, from 1')),
                ('first_picture', models.CharField(choices=[('sun', 'Sun'), ('moon', 'Moon'), ('boat', 'Boat'), ('kite', 'Kite'), ('apple', 'Apple'), ('pear', 'Pear')], max_length=8)),
                ('second_picture', models.CharField(choices=[('sun', 'Sun'), ('moon', 'Moon'), ('boat', 'Boat'), ('kite', 'Kite'), ('apple', 'Apple'), ('pear', 'Pear')], max_length=8)),
                ('first_on_left', models.BooleanField(help_text='of the two pictures to choose from')),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('version', models.PositiveIntegerField(default=0)),
                ('outcome', models.CharField(blank=True, choices=[('chosen', 'chose one story'), ('same', 'liked both the same'), ('stopped', 'gave no answer')], help_text='blank: not yet', max_length=8)),
                ('answered_at', models.DateTimeField(blank=True, null=True)),
                ('engagement_first', models.PositiveSmallIntegerField(blank=True, help_text='1 to 5', null=True)),
                ('engagement_second', models.PositiveSmallIntegerField(blank=True, help_text='1 to 5', null=True)),
                ('understood_who', models.CharField(blank=True, choices=[('yes', 'yes'), ('partly', 'partly'), ('no', 'no')], max_length=8)),
                ('understood_end', models.CharField(blank=True, choices=[('yes', 'yes'), ('partly', 'partly'), ('no', 'no')], max_length=8)),
                ('noted_at', models.DateTimeField(blank=True, null=True)),
                ('asked_about', models.ForeignKey(help_text='drawn, not chosen', on_delete=django.db.models.deletion.PROTECT, related_name='+', to='generation.story')),
                ('choice', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='generation.story')),
                ('comparison', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='listenings', to='annotate.comparison')),
                ('first', models.ForeignKey(help_text='the one heard first', on_delete=django.db.models.deletion.PROTECT, related_name='+', to='generation.story')),
                ('second', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to='generation.story')),
                ('session', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='listenings', to='annotate.listeningsession')),
            ],
            options={
                'ordering': ('session', 'number'),
            },
        ),
        migrations.AddConstraint(
            model_name='listeningsession',
            constraint=models.CheckConstraint(condition=models.Q(('consented_at__isnull', False), models.Q(('consent_version', ''), _negated=True)), name='listening_session_has_consent'),
        ),
        migrations.AddConstraint(
            model_name='listeningsession',
            constraint=models.CheckConstraint(condition=models.Q(('language__in', ['en', 'zh'])), name='listening_session_language_known'),
        ),
        migrations.AddConstraint(
            model_name='listeningsession',
            constraint=models.CheckConstraint(condition=models.Q(('age_band__in', ['5-6', '7-8'])), name='listening_session_age_band_known'),
        ),
        migrations.AddConstraint(
            model_name='listeningsession',
            constraint=models.CheckConstraint(condition=models.Q(('read_by__in', ['adult', 'browser'])), name='listening_session_reader_known'),
        ),
        migrations.AddConstraint(
            model_name='listening',
            constraint=models.UniqueConstraint(fields=('session', 'comparison'), name='listening_once_a_session'),
        ),
        migrations.AddConstraint(
            model_name='listening',
            constraint=models.UniqueConstraint(fields=('session', 'number'), name='listening_number_once'),
        ),
        migrations.AddConstraint(
            model_name='listening',
            constraint=models.CheckConstraint(condition=models.Q(('first', models.F('second')), _negated=True), name='listening_two_stories'),
        ),
        migrations.AddConstraint(
            model_name='listening',
            constraint=models.CheckConstraint(condition=models.Q(('first_picture__in', ['sun', 'moon', 'boat', 'kite', 'apple', 'pear']), ('second_picture__in', ['sun', 'moon', 'boat', 'kite', 'apple', 'pear']), models.Q(('first_picture', models.F('second_picture')), _negated=True)), name='listening_two_pictures'),
        ),
        migrations.AddConstraint(
            model_name='listening',
            constraint=models.CheckConstraint(condition=models.Q(('asked_about', models.F('first')), ('asked_about', models.F('second')), _connector='OR'), name='listening_asks_about_one_of_two'),
        ),
        migrations.AddConstraint(
            model_name='listening',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('choice__isnull', False), ('outcome', 'chosen'), models.Q(('choice', models.F('first')), ('choice', models.F('second')), _connector='OR')), models.Q(('choice', None), ('outcome__in', ['', 'same', 'stopped'])), _connector='OR'), name='listening_choice_of_the_two'),
        ),
        migrations.AddConstraint(
            model_name='listening',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('answered_at', None), ('outcome', '')), models.Q(models.Q(('outcome', ''), _negated=True), ('answered_at__isnull', False)), _connector='OR'), name='listening_answered_has_a_time'),
        ),
        migrations.AddConstraint(
            model_name='listening',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('engagement_first', None), ('engagement_first__range', (1, 5)), _connector='OR'), models.Q(('engagement_second', None), ('engagement_second__range', (1, 5)), _connector='OR')), name='listening_engagement_one_to_five'),
        ),
        migrations.AddConstraint(
            model_name='listening',
            constraint=models.CheckConstraint(condition=models.Q(('understood_end__in', ['', 'yes', 'partly', 'no']), ('understood_who__in', ['', 'yes', 'partly', 'no'])), name='listening_understood_known'),
        ),
        migrations.AddConstraint(
            model_name='listening',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(models.Q(('outcome', ''), _negated=True), ('noted_at__isnull', False)), models.Q(('engagement_first', None), ('engagement_second', None), ('noted_at', None), ('understood_end', ''), ('understood_who', '')), _connector='OR'), name='listening_notes_after_the_answer'),
        ),
    ]
