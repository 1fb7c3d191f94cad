import os

SECRET_KEY = "only for tests"
ALLOWED_HOSTS = ["*"]
DEBUG = False
INSTALLED_APPS = ["daphne", "django.contrib.contenttypes", "events"]
# It compresses what it is let to.
MIDDLEWARE = ["django.middleware.gzip.GZipMiddleware"]
ROOT_URLCONF = "tests.servers.site.urls"
ASGI_APPLICATION = "tests.servers.site.asgi.application"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ["SITE_DATABASE"],
        "CONN_MAX_AGE": None,
        "ATOMIC_REQUESTS": True,
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
STATIC_URL = "static/"
USE_TZ = True
EVENTS_ACCESS = "tests.servers.site.access.ByHeader"
EVENTS_CONTROL = os.environ["SITE_DATABASE"] + ".servers"
EVENTS_HEARTBEAT_SECONDS = float(os.environ.get("SITE_HEARTBEAT", "15"))
EVENTS_SEND_TIMEOUT_SECONDS = float(os.environ.get("SITE_SEND_TIMEOUT", "30"))
EVENTS_MAX_STREAMS = int(os.environ.get("SITE_MAX_STREAMS", "20000"))
EVENTS_MAX_STREAMS_PER_USER = int(os.environ.get("SITE_MAX_STREAMS_PER_USER", "20000"))
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["console"], "level": os.environ.get("SITE_LOG_LEVEL", "INFO")},
}
