"""The changes stream, at the level of its log."""

from asgiref.sync import sync_to_async

from events.changes import ChangesLog
from events.models import DatabaseChange
from tasks.models import ExecutionProcess, Project, Task, TaskAttempt
from tests.events.clients import Client, fresh_read, operations, until


async def settled(*clients: Client) -> None:
    """Waits until the clients have everything that is committed."""
    newest = DatabaseChange.objects.order_by("id").values_list("id", flat=True)
    last = await newest.alast() or 0
    for client in clients:

        async def has_it(client: Client = client) -> bool:
            await client.read()
            return client.position - client.log._offset >= last

        await until(has_it, "the newest change")


async def test_a_fresh_client_gets_the_whole_document_then_each_operation(
    log: ChangesLog, task: Task
) -> None:
    client = await Client(log).connect()
    assert client.document == await sync_to_async(fresh_read)()
    assert set(client.document) == {"projects", "tasks", "task_attempts", "execution_processes"}
    task.status = "inprogress"
    await task.asave(update_fields=["status"])
    await settled(client)
    assert client.seen[1:] == [{"op": "replace", "path": f"/tasks/{task.pk}/status", "value": "inprogress"}]
    path = f"/tasks/{task.pk}"
    await task.adelete()
    await settled(client)
    assert operations(client)[-1] == ("remove", path)
    assert client.document == await sync_to_async(fresh_read)()


async def test_a_resumed_client_gets_exactly_what_followed(log: ChangesLog, task: Task) -> None:
    client = await Client(log).connect()
    for number in range(5):
        await Task.objects.filter(pk=task.pk).aupdate(title=str(number))
    await client.connect()
    await settled(client)
    assert [one["value"] for one in client.seen[1:]] == ["0", "1", "2", "3", "4"]
    assert client.full_states == 1


async def test_moved_task_takes_its_runs_along(log: ChangesLog, task: Task, other_project: Project) -> None:
    attempt = await TaskAttempt.objects.acreate(task=task, executor="x", branch="b", target_branch="main")
    run = await ExecutionProcess.objects.acreate(task_attempt=attempt, run_reason="codingagent")
    one = await Client(log, frozenset({task.project_id})).connect()
    two = await Client(log, frozenset({other_project.pk})).connect()
    both = await Client(log).connect()
    task.project = other_project
    task.title = "moved"
    await task.asave()
    await settled(one, two, both)
    paths = [f"/tasks/{task.pk}", f"/task_attempts/{attempt.pk}", f"/execution_processes/{run.pk}"]
    assert operations(one, start=1) == [("remove", path) for path in paths]
    assert operations(two, start=1) == [("add", path) for path in paths]
    assert {path for _, path in operations(both, start=1)} == {
        f"{paths[0]}/{name}" for name in ("project_id", "title", "updated_at")
    }
    for client in (one, two, both):
        assert client.document == await sync_to_async(fresh_read)(client.fresh.scope)
