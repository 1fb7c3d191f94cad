import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.servers.site.settings")

from events.asgi import get_asgi_application

application = get_asgi_application()
