"""All settings, driven by the environment. The variables are declared in config/variables.py."""

import secrets
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dj_database_url
from psycopg.conninfo import make_conninfo

from config import env, model_store, postgres
from config.account_settings import *  # noqa: F403  one list of them, there
from config.secret_files import kept_secret
from generation import queues
from generation.engines.opening import VLLM_SERVER

BASE_DIR = Path(__file__).resolve().parent.parent
INSTALLED = not (BASE_DIR / "pyproject.toml").exists()  # from a wheel: this folder is not ours to write to
VAR_DIR = env.path("STORYLOOP_VAR", (Path.cwd() if INSTALLED else BASE_DIR) / "var")
if INSTALLED:
    env.pin("STORYLOOP_VAR", VAR_DIR)

DEBUG = env.boolean("STORYLOOP_DEBUG")
DEMO = env.boolean("STORYLOOP_DEMO")  # simulated experts may be asked from the page
ALLOWED_HOSTS = env.text("STORYLOOP_HOSTS").split(",")


def _secret_key() -> str:
    """STORYLOOP_SECRET_KEY, or one made once and kept in the var directory."""
    given = env.secret("STORYLOOP_SECRET_KEY")
    if given:
        return given
    try:
        return kept_secret(VAR_DIR / "secret_key", lambda: secrets.token_urlsafe(50))
    except OSError as error:
        raise env.BadEnvironment(
            f"{VAR_DIR} cannot be written to ({error.strerror}): free some space, or set STORYLOOP_VAR to "
            "another folder"
        ) from error


SECRET_KEY = _secret_key()

INSTALLED_APPS = [
    "config",
    "training",
    "annotate",
    "generation",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_htmx",
    "template_partials",
    *ACCOUNT_APPS,  # noqa: F405
]
MIDDLEWARE = [
    "config.request_log.request_log",
    "config.middleware.in_haste_of_a_person",
    # before all that can answer by itself: their headers belong on every answer, refusals and faults too
    "csp.middleware.CSPMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "config.headers.security_headers",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "config.headers.no_store",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "config.middleware.LoginRequiredMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "config.middleware.session_limits",
    "config.middleware.SecondFactorMiddleware",
    "config.audit.entries.handed_out",
]
ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": False,
        "OPTIONS": {
            "builtins": ["template_partials.templatetags.partials"],
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "django.template.context_processors.i18n",
            ],
        },
    }
]

# One SQL dialect everywhere: DATABASE_URL names a server, without it the app starts its own.
POSTGRES_DIR = VAR_DIR / "postgres"
DATABASE_URL = env.secret("DATABASE_URL")
EMBEDDED_POSTGRES = not DATABASE_URL
if EMBEDDED_POSTGRES:
    DATABASE_URL = postgres.url(POSTGRES_DIR, env.text("STORYLOOP_DATABASE"))
DATABASES = {"default": dj_database_url.parse(DATABASE_URL, conn_max_age=60, conn_health_checks=True)}
# PostgreSQL plans a statement once for each connection, not at each page; a PgBouncer in transaction mode forbids it
if env.boolean("STORYLOOP_PREPARED_STATEMENTS"):
    prepared: dict[str, Any] = {"server_side_binding": True, "prepare_threshold": 3}
    DATABASES["default"]["OPTIONS"] = {**prepared, **DATABASES["default"].get("OPTIONS", {})}
if DATABASES["default"].get("ENGINE") != "django.db.backends.postgresql":
    raise env.BadEnvironment("DATABASE_URL must begin with postgres://: Storyloop runs on PostgreSQL only")
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTHENTICATION_BACKENDS = ["config.accounts.AccountBackend"]  # each one more would hash every wrong password again
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "log_in"
LOGIN_REDIRECT_URL = "home"
LOGOUT_REDIRECT_URL = "log_in"

LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("zh-hans", "简体中文")]
LOCALE_PATHS = [BASE_DIR / "locale"]
TIME_ZONE = env.text("STORYLOOP_TIME_ZONE")
USE_TZ = True

STATIC_URL = "static/"
STATIC_ROOT = VAR_DIR / "static"
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES: dict[str, dict[str, Any]] = {  # "models" follows below
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}

SESSION_COOKIE_HTTPONLY = LANGUAGE_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = LANGUAGE_COOKIE_SAMESITE = "Lax"
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
# Nothing from other hosts, no inline script or style: stories are text that a model wrote.
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "connect-src": ["'self'"],
        "form-action": ["'self'"],
        "base-uri": ["'none'"],
        "frame-ancestors": ["'none'"],
    }
}


def _conninfo() -> str:
    """The database in libpq's own words: not every library reads a socket's path in a URL."""
    known: dict[str, Any] = {**DATABASES["default"]}
    names = {"host": "HOST", "port": "PORT", "dbname": "NAME", "user": "USER", "password": "PASSWORD"}
    return make_conninfo(**{ours: known[theirs] for ours, theirs in names.items() if known.get(theirs)})


# By default the queue lives in the same PostgreSQL (kombu's pgmq transport, docs/adr/0002).
CELERY_BROKER_URL = env.secret("CELERY_BROKER_URL") or "pgmq://"
CELERY_BROKER_TRANSPORT_OPTIONS = (
    {"conn_string": _conninfo(), "init_extension": False, "polling_interval": 0.2, "wait_time_seconds": 0}
    if CELERY_BROKER_URL.startswith("pgmq")
    else {"visibility_timeout": 3600}
)
CELERY_TASK_DEFAULT_QUEUE = queues.DEFAULT
CELERY_TASK_ROUTES = {
    "training.tasks.run_round": {"queue": queues.TRAINING},
    "training.tasks.write_round": {"queue": queues.GENERATION},
    **{
        f"generation.tasks.{name}": {"queue": queues.GENERATION}
        for name in ("write_run", "check_engine", "read_stories")
    },
}
CELERY_WORKER_ENABLE_REMOTE_CONTROL = False  # nobody asks, and each worker would leave tables of its own in pgmq
CELERY_TASK_IGNORE_RESULT = True  # results are rows, never messages
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
# What this machine's worker claims; "": what it has the hardware for (docs/workers.md).
QUEUES = [name.strip() for name in env.text("STORYLOOP_QUEUES").split(",") if name.strip()]
if unknown := [name for name in QUEUES if name not in queues.QUEUES]:
    raise env.BadEnvironment(f"STORYLOOP_QUEUES has {unknown[0]!r}: it may have {', '.join(queues.QUEUES)}")
CELERY_BEAT_SCHEDULE = {
    "sweep-rounds": {"task": "training.tasks.sweep_rounds", "schedule": 5.0, "options": {"expires": 30}},
    "sweep-runs": {"task": "generation.tasks.sweep_runs", "schedule": 20.0, "options": {"expires": 60}},
    "sweep-exports": {"task": "annotate.tasks.sweep_exports", "schedule": 20.0, "options": {"expires": 60}},
    "launch-due-round": {"task": "training.tasks.launch_due_round", "schedule": 20.0, "options": {"expires": 60}},
    "send-notices": {"task": "training.tasks.send_notices", "schedule": 10.0, "options": {"expires": 30}},
    "promote-due-round": {"task": "training.tasks.promote_due_round", "schedule": 20.0, "options": {"expires": 60}},
}
CELERY_ACCEPT_CONTENT = ["json"]  # a pickled message would be code
CELERY_BEAT_SCHEDULE_FILENAME = str(VAR_DIR / "beat-schedule")

# Who is told of rounds (docs/training.md).
if mail := env.mail("STORYLOOP_EMAIL_URL"):
    globals().update(mail)
    EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
else:
    EMAIL_BACKEND = "django.core.mail.backends.dummy.EmailBackend"
MAIL_SERVER = bool(mail)
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = env.text("STORYLOOP_EMAIL_FROM")
SITE_URL = env.text("STORYLOOP_URL").rstrip("/")  # begins the links in messages
if SITE_URL:
    env.site("STORYLOOP_URL", SITE_URL)
# Served over https (docs/security.md): browsers never speak http to it, and its cookies are its own.
HTTPS = env.boolean("STORYLOOP_HTTPS", SITE_URL.startswith("https://"))
BEHIND_PROXY = env.boolean("STORYLOOP_BEHIND_PROXY")
if HTTPS:
    SECURE_SSL_REDIRECT = True
    SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$", r"^metrics$"]
    SECURE_HSTS_SECONDS = env.integer("STORYLOOP_HSTS_SECONDS")
    SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = True
    SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = LANGUAGE_COOKIE_SECURE = True
    # a browser takes such a name from this host alone, over https, for all paths (static/*.js read the second)
    SESSION_COOKIE_NAME, CSRF_COOKIE_NAME = "__Host-sessionid", "__Host-csrftoken"
    LANGUAGE_COOKIE_NAME = "__Host-language"
    if SITE_URL:
        CSRF_TRUSTED_ORIGINS = ["{0.scheme}://{0.netloc}".format(urlsplit(SITE_URL))]
if BEHIND_PROXY:  # only where nobody but the proxy reaches the web server: anybody can send the header
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
PRIVATE_WEBHOOKS = env.boolean("STORYLOOP_PRIVATE_WEBHOOKS")

# Where models live, and the model that everything begins with ("" means: make the demo writer).
MODEL_DIR = env.path("STORYLOOP_MODEL_DIR", VAR_DIR / "models")
BASE_MODEL = env.optional_path("STORYLOOP_BASE_MODEL")
WRITER_CACHE = env.path("STORYLOOP_WRITER_CACHE", (VAR_DIR if INSTALLED else BASE_DIR / "var") / "writers")
EXPORT_DIR = env.path("STORYLOOP_EXPORT_DIR", VAR_DIR / "exports")
IMPORT_DIR = VAR_DIR / "imports"  # uploads between their check and their import
# Where machines that share no folder keep what they share (docs/adr/0017); "": in these folders.
MODEL_STORE = env.text("STORYLOOP_MODEL_STORE").rstrip("/")
MODEL_CACHE_GB = env.integer("STORYLOOP_MODEL_CACHE_GB")
STORAGES |= model_store.storages(MODEL_STORE, MODEL_DIR)
API_PER_MINUTE = env.integer("STORYLOOP_API_PER_MINUTE")  # requests of a token; 0: no limit
IMPORT_MAX_MB = env.integer("STORYLOOP_IMPORT_MAX_MB")
# For manage.py push_policy alone.
HUB_ENDPOINT = env.text("STORYLOOP_HUB_ENDPOINT")
env.server("STORYLOOP_HUB_ENDPOINT", HUB_ENDPOINT, key="STORYLOOP_HUB_TOKEN")
HUB_TOKEN = env.secret("STORYLOOP_HUB_TOKEN")
if HUB_TOKEN and HUB_ENDPOINT.startswith("http:") and urlsplit(HUB_ENDPOINT).hostname not in ("127.0.0.1", "localhost"):
    raise env.BadEnvironment(f"STORYLOOP_HUB_ENDPOINT is {HUB_ENDPOINT}: the token would be read on the way; say https")

# What writes the stories (docs/generation.md).
ENGINE = env.choice("STORYLOOP_ENGINE")
VLLM_URLS = [url.strip() for url in env.text("STORYLOOP_VLLM_URLS").split(",") if url.strip()]
if ENGINE == VLLM_SERVER and not VLLM_URLS:
    raise env.BadEnvironment("STORYLOOP_VLLM_URLS is not set: name the servers of vllm-server, with commas between")
for url in VLLM_URLS:
    env.server("STORYLOOP_VLLM_URLS", url)
VLLM_API_KEY = env.secret("STORYLOOP_VLLM_API_KEY")
VLLM_PYTHON = env.location(
    "STORYLOOP_VLLM_PYTHON", (VAR_DIR / "venv-vllm" if INSTALLED else BASE_DIR / ".venv-vllm") / "bin" / "python"
)
VLLM_GPU_MEMORY = env.integer("STORYLOOP_VLLM_GPU_MEMORY")  # percent
VLLM_MAX_MODEL_LEN = env.integer("STORYLOOP_VLLM_MAX_MODEL_LEN")
VLLM_PATIENCE = env.integer("STORYLOOP_VLLM_PATIENCE")  # seconds without any server that answers

STORIES_PER_PROMPT = env.integer("STORYLOOP_STORIES_PER_PROMPT")
MAX_STORY_TOKENS = env.integer("STORYLOOP_MAX_STORY_TOKENS")
PLACES_PER_COMPARISON = env.integer("STORYLOOP_PLACES_PER_COMPARISON")
RESERVATION_MINUTES = env.integer("STORYLOOP_RESERVATION_MINUTES")
# how long a worker may be silent until another takes its round
LEASE_SECONDS = env.integer("STORYLOOP_LEASE_SECONDS")
MIN_JUDGEMENTS_FOR_WIN_RATE = env.integer("STORYLOOP_MIN_JUDGEMENTS")

# /metrics, for Prometheus (docs/running.md). Without a token there is none.
METRICS_TOKEN = env.secret("STORYLOOP_METRICS_TOKEN")

# How the processes log (docs/running.md, config/logs.py).
LOG_FORMAT = env.choice("STORYLOOP_LOG_FORMAT")
LOG_LEVEL = env.choice("STORYLOOP_LOG_LEVEL")
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"facts": {"()": "config.logs.Facts"}},
    "formatters": {"line": {"()": "config.logs.Line"}, "json": {"()": "config.logs.Json"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": LOG_FORMAT, "filters": ["facts"]}},
    "loggers": {
        "django": {"handlers": [], "propagate": True},  # Django's own: lines of another shape, and e-mails
        "django.db.backends": {"level": "INFO"},  # at DEBUG it tells what people wrote
        "pgmq": {"level": "WARNING"},
        "kombu.connection": {"level": "ERROR"},  # warns that pgmq:// names no host: it is in the options
        "celery.beat": {"level": "WARNING"},  # a line each five seconds
    },
    "root": {"handlers": ["console"], "level": LOG_LEVEL},
}
