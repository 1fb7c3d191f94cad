"""The rows of the log, to look at. Nobody changes them: they are what clients were told."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

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
