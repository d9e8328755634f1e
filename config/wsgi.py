import multiprocessing
import os

from django.core.wsgi import get_wsgi_application
from django.urls import get_resolver

from generation.engines.processes import die_with_parent

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
if multiprocessing.parent_process() is not None:
    die_with_parent()  # granian's worker: it would go on answering when its server was killed
application = get_wsgi_application()
get_resolver().url_patterns  # noqa: B018  all pages' code, before the first request and not in it: it is a second of work
