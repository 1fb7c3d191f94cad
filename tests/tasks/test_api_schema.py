"""The interface keeps what its own description says, whatever is sent to it."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import request_finished, request_started
from django.db import close_old_connections
from hypothesis import HealthCheck, settings

from tasks.models import Project, Task
from tasks.tokens import issue_token
from tests.scale import scaled

# Beginning runs would fill the machine with worktrees: these have tests of their own.
STARTS = r"(follow-up|devserver|merge|rebase|discard)$"


@pytest.fixture
def signed_in(admin: User) -> dict[str, str]:
    return {"Authorization": f"Bearer {issue_token(admin)}"}


@pytest.fixture
def interface(signed_in: dict[str, str], project: Project, task: Task) -> Iterator[Any]:
    import schemathesis

    # A request ends by closing its connection, and with it the transaction in which this test's records are.
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield schemathesis.openapi.from_wsgi("/api/openapi.json", WSGIHandler(), headers=signed_in)
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


def test_every_answer_is_as_described(
    interface: Any, request: pytest.FixtureRequest, signed_in: dict[str, str]
) -> None:
    import schemathesis

    schema = schemathesis.pytest.from_fixture("interface")

    @schema.exclude(path_regex=STARTS).exclude(path="/api/task-attempts", method="POST").parametrize()
    @settings(
        max_examples=scaled(200, 1), deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
    )
    def check(case: schemathesis.Case) -> None:
        answer = case.call(headers=signed_in)
        assert answer.status_code < 500
        case.validate_response(
            answer,
            checks=(
                schemathesis.checks.not_a_server_error,
                schemathesis.specs.openapi.checks.response_schema_conformance,
                schemathesis.specs.openapi.checks.status_code_conformance,
            ),
        )

    check(request=request)
