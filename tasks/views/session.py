"""Signing in: by a single-use link, or by name and password."""

from django.contrib.auth import login
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.views import LoginView, LogoutView
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from tasks.tokens import use_sign_in_link

BACKEND = "django.contrib.auth.backends.ModelBackend"


class SignIn(LoginView):
    template_name = "pages/sign_in.html"
    redirect_authenticated_user = True


sign_in = SignIn.as_view()
sign_out = LogoutView.as_view()


@never_cache
@require_GET
def sign_in_by_link(request: HttpRequest, secret: str) -> HttpResponse:
    """Uses the link up and goes to the projects. Browsers that only fetch ahead do not use it up."""
    if "prefetch" in request.headers.get("Sec-Purpose", request.headers.get("Purpose", "")):
        return HttpResponse(status=204)
    user = use_sign_in_link(secret)
    if user is not None:
        login(request, user, BACKEND)
        return redirect("home")
    if request.user.is_authenticated:
        return redirect("home")
    context = {"form": AuthenticationForm(request), "used": True}
    return render(request, "pages/sign_in.html", context, status=410)
