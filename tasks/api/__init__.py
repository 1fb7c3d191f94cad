"""The REST interface (django-ninja): one router a record. The page at /api/docs describes it, offline too."""

from django.core.exceptions import ObjectDoesNotExist, PermissionDenied
from django.http import HttpRequest, HttpResponse
from ninja import NinjaAPI
from ninja.errors import AuthenticationError

from events.responses import nobody_known
from tasks.api import attempts, processes, projects, tasks
from tasks.api.auth import caller, for_callers
from tasks.errors import Refused

api = NinjaAPI(
    title="Vibe",
    version="1",
    description="Projects, tasks, attempts and their runs. Changes arrive live on /api/events/.",
    auth=caller,
    docs_decorator=for_callers,
    urls_namespace="api",
)
api.add_router("/projects", projects.router)
api.add_router("/tasks", tasks.router)
api.add_router("/task-attempts", attempts.router)
api.add_router("", processes.router)


@api.exception_handler(Refused)
def on_refused(request: HttpRequest, refused: Refused) -> HttpResponse:
    body: dict[str, object] = {"detail": refused.message}
    if refused.files:
        body["files"] = list(refused.files)
    return api.create_response(request, body, status=refused.status)


@api.exception_handler(ObjectDoesNotExist)
def on_deleted(request: HttpRequest, missing: ObjectDoesNotExist) -> HttpResponse:
    """Somebody deleted what was found when the request began."""
    return api.create_response(request, {"detail": "It was deleted in the meantime."}, status=404)


@api.exception_handler(AuthenticationError)
def on_unauthenticated(request: HttpRequest, error: AuthenticationError) -> HttpResponse:
    return nobody_known()


@api.exception_handler(PermissionDenied)
def on_denied(request: HttpRequest, denied: PermissionDenied) -> HttpResponse:
    return api.create_response(request, {"detail": str(denied)}, status=403)
