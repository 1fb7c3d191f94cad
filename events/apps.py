from django.apps import AppConfig
from django.conf import settings
from django.db.models.signals import post_migrate


class EventsConfig(AppConfig):
    name = "events"
    verbose_name = "Event streams"

    def ready(self) -> None:
        from events import lifecycle
        from events.changes import ChangesLog
        from events.conf import setting
        from events.control import Control
        from events.models import ensure_log
        from events.pruning import Pruner
        from events.service import service

        service.register("changes", ChangesLog)
        pruner = Pruner()
        lifecycle.on_start(pruner.start)
        lifecycle.on_stop(pruner.stop)
        post_migrate.connect(ensure_log, sender=self, dispatch_uid="events.ensure_log")
        service.max_streams = setting("EVENTS_MAX_STREAMS")
        service.max_streams_per_user = setting("EVENTS_MAX_STREAMS_PER_USER")
        service.wheel.heartbeat = setting("EVENTS_HEARTBEAT_SECONDS")
        service.wheel.send_timeout = setting("EVENTS_SEND_TIMEOUT_SECONDS")
        if hasattr(settings, "EVENTS_CONTROL"):
            control = Control()
            lifecycle.on_start(control.start)
            lifecycle.on_stop(control.stop)
