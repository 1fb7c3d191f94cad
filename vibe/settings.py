"""Settings of the project. What an operator sets comes from the environment (README, "Settings")."""

from pathlib import Path

from vibe import environment as env

BASE_DIR = Path(__file__).resolve().parent.parent
VIBE_DATA = env.data_folder("VIBE_DATA", BASE_DIR / "var")
# The demo project's repository lies in the data folder, so that much of it is always allowed.
VIBE_REPO_ROOTS = [*env.folders("VIBE_REPO_ROOTS"), VIBE_DATA / "demo"]
VIBE_WORKTREE_DAYS = env.number("VIBE_WORKTREE_DAYS", 7, least=0, most=36_500)

VIBE_MAX_RUNS = env.integer("VIBE_MAX_RUNS", 8, least=1)
VIBE_RUN_TIMEOUT_SECONDS = env.number("VIBE_RUN_TIMEOUT_SECONDS", 86_400, least=0)
VIBE_STOP_GRACE_SECONDS = env.number("VIBE_STOP_GRACE_SECONDS", 3, least=0, most=600)
VIBE_MAX_LOG_BYTES = env.integer("VIBE_MAX_LOG_BYTES", 1024**3, least=1024**2)
VIBE_DISK_WAIT_SECONDS = env.number("VIBE_DISK_WAIT_SECONDS", 60, least=0)
# The agent reads it itself; here a bad value stops the start.
VIBE_DEMO_SECONDS = env.number("VIBE_DEMO_SECONDS", 30, least=0, most=86_400)
VIBE_COMPRESS_LOGS_AFTER_HOURS = env.number("VIBE_COMPRESS_LOGS_AFTER_HOURS", 24, least=0, most=876_000)

SECRET_KEY = env.secret_key(VIBE_DATA)
DEBUG = env.flag("DEBUG", False)
ALLOWED_HOSTS = env.hosts("ALLOWED_HOSTS", ["localhost", "127.0.0.1", "[::1]"])
PUBLIC_URL = env.origin("PUBLIC_URL")
LOG_LEVEL = env.one_of("LOG_LEVEL", "INFO", ["DEBUG", "INFO", "WARNING", "ERROR"])

# Another address will name what several servers share; one process needs nothing but its memory.
EVENTS_URL = env.one_of("EVENTS_URL", "memory://", ["memory://"])
# Where running servers say how `manage.py streams` can ask them.
EVENTS_CONTROL = VIBE_DATA / "servers"
EVENTS_HEARTBEAT_SECONDS = env.number("EVENTS_HEARTBEAT_SECONDS", 15, least=0.1, most=60)
EVENTS_BUFFER_BYTES = env.integer("EVENTS_BUFFER_BYTES", 64 * 1024**2, least=64 * 1024)
EVENTS_MAX_MESSAGE_BYTES = env.integer("EVENTS_MAX_MESSAGE_BYTES", 1024**2, least=4096)
EVENTS_KEEP_DAYS = env.number("EVENTS_KEEP_DAYS", 30, least=0, most=36_500)
EVENTS_KEEP_BYTES = env.integer("EVENTS_KEEP_BYTES", 512 * 1024**2, least=0)
EVENTS_PRUNE_SECONDS = env.number("EVENTS_PRUNE_SECONDS", 300, least=0.1, most=86_400)
EVENTS_MAX_STREAMS = env.integer("EVENTS_MAX_STREAMS", 12_000, least=1)
EVENTS_MAX_STREAMS_PER_USER = env.integer("EVENTS_MAX_STREAMS_PER_USER", 200, least=1)
EVENTS_SEND_TIMEOUT_SECONDS = env.number("EVENTS_SEND_TIMEOUT_SECONDS", 30, least=0.1)

EVENTS_ACCESS = "tasks.stream_access.StreamAccess"

INSTALLED_APPS = [
    # Before staticfiles: its runserver runs our Server. Daphne is no app here: that would load all of Twisted for
    # each command, which then takes half as long again to start.
    "vibe",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "ninja",
    "events",
    "tasks",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "vibe.middleware.content_security_policy",
    "vibe.middleware.json_errors",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "vibe.middleware.change_actor",
]

ROOT_URLCONF = "vibe.urls"
ASGI_APPLICATION = "vibe.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "tasks.views.context.page",
            ],
        },
    },
]

DATABASES = {"default": env.database("DATABASE_URL", VIBE_DATA / "db.sqlite3")}
if str(DATABASES["default"]["ENGINE"]).endswith("sqlite3"):
    # IMMEDIATE: a transaction that reads and then writes would fail with "database is locked" at once,
    # whatever the timeout, when another wrote in between; taking the write lock at BEGIN waits instead.
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 30,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    }
    # A file even in tests: several connections to a memory database do not lock as those to a file do.
    DATABASES["default"]["TEST"] = {"NAME": str(VIBE_DATA / "test.sqlite3")}

DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
LOGIN_URL = "sign-in"
LOGIN_REDIRECT_URL = "home"
LOGOUT_REDIRECT_URL = "sign-in"

LANGUAGE_CODE = "en-gb"
TIME_ZONE = "UTC"
USE_I18N = False
USE_TZ = True

STATIC_URL = "static/"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "vibe.static.VersionedStorage"},
}

# A project's page in the admin has a form for each of its tasks.
DATA_UPLOAD_MAX_NUMBER_FIELDS = 20_000

X_FRAME_OPTIONS = "DENY"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_SAMESITE = "Lax"
SECURE_REFERRER_POLICY = "same-origin"
if PUBLIC_URL.startswith("https://"):
    # Served behind a proxy that ends TLS; docs/operating.md has the proxy's side.
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SECURE_SSL_REDIRECT = True
    SECURE_HSTS_SECONDS = 31_536_000
    SECURE_HSTS_INCLUDE_SUBDOMAINS = True
    SECURE_HSTS_PRELOAD = True
    SESSION_COOKIE_SECURE = True
    CSRF_COOKIE_SECURE = True
if PUBLIC_URL:
    CSRF_TRUSTED_ORIGINS = [PUBLIC_URL]

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname} {name}: {message}", "style": "{"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": "WARNING"},
    "loggers": {name: {"level": LOG_LEVEL} for name in ("vibe", "events", "tasks")},
}
