"""The stream of all changes. The application adds the addresses of its own kinds with `events.api.stream`."""

from django.urls import path

from events.api import stream

urlpatterns = [
    path("", stream("changes"), name="changes"),
]
