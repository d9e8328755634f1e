"""The Celery application. The state of a round is in the database, not in this queue."""

import os

from celery import Celery

from config import broker, logs

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
broker.use()
app = Celery("storyloop")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
logs.connect()
