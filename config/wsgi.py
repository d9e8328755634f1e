import os

from django.core.wsgi import get_wsgi_application

from training.processes import die_with_parent

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
die_with_parent()  # a worker whose server was killed would go on answering
application = get_wsgi_application()
