"""The stream of all changes, and the bundle of any streams.

The application adds the addresses of its own kinds with `events.api.stream`.
"""

from django.urls import path

from events.api import bundle, stream

urlpatterns = [
    path("", stream("changes"), name="changes"),
    path("bundle", bundle, name="bundle"),
]
