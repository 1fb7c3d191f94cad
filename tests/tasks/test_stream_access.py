"""The board's answers to the engine's questions about who may read what."""

from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.test import Client, RequestFactory
from django.utils import timezone

from events.access import ALL, Principal
from tasks.models import ApiToken, ExecutionProcess, Project, Task, TaskAttempt
from tasks.stream_access import StreamAccess
from tasks.tokens import issue_token

access = StreamAccess()


def principal_of(user: User) -> Principal:
    """By a token of the user's own."""
    request = RequestFactory().get("/", headers={"Authorization": f"Bearer {issue_token(user)}"})
    found = access.authenticate(request)
    assert found is not None
    return found


def session_principal(user: User) -> Principal:
    client = Client()
    client.force_login(user)
    request = RequestFactory().get("/")
    request.session = client.session
    request.user = user
    found = access.authenticate(request)
    assert found is not None
    return found


def test_superusers_see_all_and_members_their_projects(admin: User, member: User, project: Project) -> None:
    assert access.scope(principal_of(admin)) is ALL
    assert access.scope(principal_of(member)) == frozenset()
    project.members.add(member)
    assert access.scope(principal_of(member)) == frozenset({project.id})


def test_streams_lie_in_their_project(task: Task) -> None:
    attempt = TaskAttempt.objects.create(task=task, executor="demo", branch="b", target_branch="main")
    process = ExecutionProcess.objects.create(task_attempt=attempt, run_reason="codingagent")
    logs, diff = f"logs:{process.id}", f"diff:{attempt.id}"
    found = access.scopes_of(
        [f"changes:{task.project_id}", logs, diff, f"logs:{uuid4()}", f"diff:{process.id}"]
    )
    assert found == dict.fromkeys((f"changes:{task.project_id}", logs, diff), task.project_id)


@pytest.mark.parametrize("end", ["revoke", "deactivate", "delete"])
def test_a_token_that_ended_is_not_valid(member: User, end: str) -> None:
    principal = principal_of(member)
    assert principal in access.still_valid([principal])
    if end == "revoke":
        ApiToken.objects.update(revoked_at=timezone.now())
    elif end == "deactivate":
        User.objects.update(is_active=False)
    else:
        member.delete()
    assert access.still_valid([principal]) == {}


def test_a_session_ends_with_sign_out_and_with_a_new_password(member: User) -> None:
    first, second = session_principal(member), session_principal(member)
    assert set(access.still_valid([first, second])) == {first, second}
    Client().session.__class__(first.credential.split(":")[1]).delete()
    assert set(access.still_valid([first, second])) == {second}
    member.set_password("a new and long one")
    member.save()
    assert access.still_valid([second]) == {}


def test_a_session_ends_when_its_time_has_come(member: User) -> None:
    principal = session_principal(member)
    Session.objects.update(expire_date=timezone.now())
    assert access.still_valid([principal]) == {}


def test_one_round_of_questions_whatever_the_number(
    admin: User, member: User, project: Project, django_assert_max_num_queries: object
) -> None:
    principals = [principal_of(user) for user in (admin, member) for _ in range(50)]
    with django_assert_max_num_queries(6):  # type: ignore[operator]
        assert len(access.still_valid(principals)) == 100
