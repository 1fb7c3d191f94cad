from django.apps import AppConfig


class TasksConfig(AppConfig):
    name = "tasks"
    verbose_name = "Board"

    def ready(self) -> None:
        from tasks import records

        records.track_all()
