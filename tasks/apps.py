from django.apps import AppConfig


class TasksConfig(AppConfig):
    name = "tasks"
    verbose_name = "Board"

    def ready(self) -> None:
        from events import lifecycle
        from tasks import records

        records.track_all()
        lifecycle.on_start(_start_webhooks)
        lifecycle.on_stop(_stop_webhooks)


def _start_webhooks() -> None:
    from tasks.webhooks import service  # only the server needs it, and not every command its HTTP client

    service.start()


def _stop_webhooks() -> None:
    from tasks.webhooks import service

    service.stop()
