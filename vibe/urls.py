"""Every address of the site."""

from uuid import UUID

from django.conf import settings
from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from events import monitor
from events.api import bundle, stream
from tasks.api import api
from tasks.views import doctor

streams = [
    path("echo", doctor.echo_stream, name="doctor-echo"),
    path("", stream("changes", narrow_by="project_id", keys=UUID), name="changes-stream"),
    path("bundle", bundle, name="bundle"),
    path("streams", monitor.streams, name="streams"),
    path("processes/<str:key>/logs", stream("logs", keys=UUID), name="logs-stream"),
    path("task-attempts/<str:key>/diff", stream("diff", keys=UUID), name="diff-stream"),
]

urlpatterns = [
    # Pages name their icon; what has no page of its own (the admin, the description of the API) asks here.
    path("favicon.ico", RedirectView.as_view(url=settings.STATIC_URL + "tasks/favicon.svg")),
    path("admin/", admin.site.urls),
    path("api/events/", include(streams)),
    path("api/", include("tasks.logs.log_views")),
    path("api/", api.urls),
    path("streams/", monitor.page, name="streams-page"),
    path("metrics", monitor.metrics, name="metrics"),
    path("", include("tasks.urls")),
]
