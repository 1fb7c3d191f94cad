"""The rows of the log, to look at. Nobody changes them: they are what clients were told."""

from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest

from events.access import access
from events.history import entry_of, who
from events.models import DatabaseChange


@admin.register(DatabaseChange)
class DatabaseChangeAdmin(admin.ModelAdmin):
    list_display = ["id", "at", "who", "table", "operation", "what"]
    list_filter = ["table", "operation", "actor_kind", "at"]
    search_fields = ["=object_id", "=actor_label"]
    list_per_page = 50
    # Counting a table of a million rows for each page is what makes an admin slow.
    show_full_result_count = False
    ordering = ["-id"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[DatabaseChange]:
        """Those that the reader's stream of changes shows."""
        rows, principal = super().get_queryset(request), access().authenticate(request)
        scope = access().scope(principal) if principal is not None else frozenset()
        if isinstance(scope, frozenset):
            seen = [str(place) for place in scope]
            for name in ("scope", "scope_before"):
                rows = rows.filter(Q(**{f"{name}__in": seen}) | Q(**{f"{name}__isnull": True}))
        return rows

    @admin.display(description="who")
    def who(self, row: DatabaseChange) -> str:
        return who(row)

    @admin.display(description="what")
    def what(self, row: DatabaseChange) -> str:
        return entry_of(row).what()

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
