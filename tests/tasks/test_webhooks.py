"""Webhooks, sent to a real HTTP server."""

import base64
import hashlib
import hmac
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.utils import timezone
from django.utils.html import escape

from events.models import ChangeLog
from tasks import projects
from tasks.models import ExecutionProcess, Project, Task, TaskAttempt, Webhook, WebhookDelivery
from tasks.webhooks import collecting, sending, service, signing
from tests.documents import ROOT, code_blocks
from tests.live import LiveServer
from tests.receiver import Receiver
from tests.runs import wait_for
from tests.scale import scaled

Status = WebhookDelivery.Status
KILLS = scaled(20, 2)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


@pytest.fixture
def task(db: None) -> Task:
    project = Project.objects.create(name="Board", repo_path="/nowhere/board", target_branch="main")
    return projects.create_task(project, {"title": "Say hello"})


def hook(receiver: Receiver, **fields: Any) -> Webhook:
    webhook = Webhook.objects.create(url=receiver.url, **fields)
    collecting.collect()  # the first look sets the cursor: what was before is not told
    return webhook


def deliver_all() -> None:
    while collecting.collect():
        pass
    for webhook in Webhook.objects.filter(enabled=True):
        for delivery in sending.due(webhook, timezone.now()):
            sending.send(delivery)


def documented_check() -> Any:
    """The function that docs/api.md gives to those who receive messages."""
    code = next(block for block in code_blocks(ROOT / "docs/api.md", "python") if "def is_genuine" in block)
    names = {"base64": base64, "hmac": hmac, "hashlib": hashlib, "time": time}
    exec(code, names)
    return names["is_genuine"]


def test_the_signature_is_that_of_standard_webhooks() -> None:
    # The example of https://github.com/standard-webhooks/standard-webhooks
    signed = signing.headers(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
    )
    assert signed["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_moved_task_is_told_and_the_documented_check_accepts_it(task: Task, receiver: Receiver) -> None:
    webhook = hook(receiver)
    projects.change_task(task, {"status": "inprogress"})
    projects.change_task(task, {"title": "Say hello twice"})
    deliver_all()
    (message,) = receiver.messages
    data = message.json["data"]
    assert message.json["type"] == "task.moved"
    assert (data["from"], data["to"]) == ("todo", "inprogress")
    assert data["task"]["id"] == str(task.pk) and data["project"]["name"] == "Board"
    assert "moved from To do to In progress" in data["text"]
    is_genuine = documented_check()
    assert is_genuine(webhook.secret, message.headers, message.body)
    assert not is_genuine(webhook.secret, message.headers, message.body + b" ")
    assert not is_genuine(Webhook(url="x").secret, message.headers, message.body)


@pytest.mark.parametrize("end", ExecutionProcess.ENDED)
def test_each_end_of_a_run_is_told(task: Task, receiver: Receiver, end: str) -> None:
    hook(receiver)
    attempt = TaskAttempt.objects.create(task=task, executor="demo", branch="vibe/x", target_branch="main")
    run = ExecutionProcess.objects.create(task_attempt=attempt, run_reason="codingagent")
    for status in ("running", end):
        run.status = status
        run.save(update_fields=["status", "updated_at"])
    deliver_all()
    (message,) = receiver.of_type("run.ended")
    assert message["data"]["status"] == end
    assert message["data"]["run"]["id"] == str(run.pk)
    assert message["data"]["attempt"]["executor"] == "demo"


def test_bulk_changes_are_told_and_rolled_back_ones_are_not(task: Task, receiver: Receiver) -> None:
    hook(receiver)
    Task.objects.filter(pk=task.pk).update(status="done")
    deliver_all()
    assert [message["data"]["to"] for message in receiver.of_type("task.moved")] == ["done"]


def test_a_webhook_hears_of_its_project_and_its_events_only(task: Task, receiver: Receiver) -> None:
    other = Project.objects.create(name="Other", repo_path="/nowhere/other", target_branch="main")
    hook(receiver, project=other)
    hook(receiver, events=["run.ended"])
    projects.change_task(task, {"status": "done"})
    deliver_all()
    assert not receiver.messages
    projects.change_task(projects.create_task(other, {"title": "Elsewhere"}), {"status": "done"})
    deliver_all()
    assert [message["data"]["task"]["title"] for message in receiver.of_type("task.moved")] == ["Elsewhere"]


def test_a_failed_message_is_sent_again_ever_later_with_the_same_id(task: Task, receiver: Receiver) -> None:
    webhook = hook(receiver)
    receiver.answer = lambda number: 500 if number < 3 else 204
    projects.change_task(task, {"status": "done"})
    collecting.collect()
    now = timezone.now()
    waits = []
    for _ in range(3):
        (delivery,) = sending.due(webhook, now)
        assert not sending.send(delivery, now)
        assert not sending.due(webhook, now)
        assert delivery.next_attempt_at is not None
        waits.append((delivery.next_attempt_at - now).total_seconds())
        now = delivery.next_attempt_at
    assert [least <= wait <= least * 1.1 for least, wait in zip((5, 20, 80), waits, strict=True)] == [
        True
    ] * 3
    (delivery,) = sending.due(webhook, now)
    assert "500 Internal Server Error: the receiver's own words" in delivery.error
    assert sending.send(delivery, now)
    delivery.refresh_from_db()
    assert (delivery.status, delivery.attempts, delivery.response_status) == (Status.DELIVERED, 4, 204)
    assert len({message.headers["webhook-id"] for message in receiver.messages}) == 1
    assert len({message.body for message in receiver.messages}) == 1


def test_a_message_is_given_up_after_the_last_attempt(task: Task) -> None:
    webhook = Webhook.objects.create(url="http://127.0.0.1:9/")
    delivery = WebhookDelivery.objects.create(
        webhook=webhook,
        event="ping",
        payload={},
        next_attempt_at=timezone.now(),
        attempts=sending.MAX_ATTEMPTS - 1,
    )
    assert not sending.send(delivery)
    delivery.refresh_from_db()
    assert delivery.status == Status.FAILED and delivery.next_attempt_at is None
    assert "ConnectError" in delivery.error


@pytest.mark.parametrize(
    ("url", "words"), [("http://127.0.0.1:99999/", "OverflowError"), ("http://xn--a.com/", "Codepoint")]
)
def test_an_address_that_is_none_is_a_failure_that_is_told(task: Task, url: str, words: str) -> None:
    webhook = Webhook(url=url)
    webhook.full_clean()
    webhook.save()
    delivery = WebhookDelivery.objects.create(
        webhook=webhook, event="ping", payload={}, next_attempt_at=timezone.now()
    )
    assert not sending.send(delivery)
    delivery.refresh_from_db()
    assert delivery.status == Status.PENDING and words in delivery.error


@pytest.mark.parametrize(
    "headers", [{"Content-Type": "text/plain; charset=hex"}, {"Content-Encoding": "gzip, gzip"}]
)
def test_an_answer_is_told_as_it_came_and_neither_decoded_nor_unpacked(
    task: Task, receiver: Receiver, headers: dict[str, str]
) -> None:
    webhook = hook(receiver)
    receiver.answer = lambda number: 500
    receiver.headers = headers
    projects.change_task(task, {"status": "done"})
    collecting.collect()
    (delivery,) = sending.due(webhook, timezone.now())
    sending.send(delivery)
    assert "the receiver's own words" in delivery.error


@pytest.mark.parametrize("status", [301, 302, 307])
def test_a_redirect_is_a_failure_and_not_followed(task: Task, receiver: Receiver, status: int) -> None:
    hook(receiver)
    receiver.answer = lambda number: status
    receiver.headers = {"Location": "http://169.254.169.254/"}
    projects.change_task(task, {"status": "done"})
    deliver_all()
    assert [message.answered for message in receiver.messages] == [status]
    assert WebhookDelivery.objects.get().status == Status.PENDING


def test_a_receiver_that_drips_its_answer_is_cut_off(
    task: Task, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "DEADLINE", 0.3)
    hook(receiver)
    receiver.drip = 0.1
    projects.change_task(task, {"status": "done"})
    deliver_all()
    delivery = WebhookDelivery.objects.get()
    assert delivery.status == Status.PENDING and delivery.error == "No whole answer within 0.3 seconds"


def test_gone_switches_the_webhook_off(task: Task, receiver: Receiver) -> None:
    webhook = hook(receiver)
    receiver.answer = lambda number: 410
    projects.change_task(task, {"status": "done"})
    deliver_all()
    webhook.refresh_from_db()
    assert not webhook.enabled and WebhookDelivery.objects.get().status == Status.FAILED


def test_what_waits_goes_where_the_webhook_points_by_now(task: Task, receiver: Receiver) -> None:
    webhook = hook(receiver)
    for status in ("inprogress", "inreview", "done"):
        projects.change_task(task, {"status": status})
    collecting.collect()
    first, second, third = sending.due(webhook, timezone.now())
    with Receiver() as other:
        Webhook.objects.update(url=other.url)
        assert sending.send(first)
        Webhook.objects.update(enabled=False)
        assert not sending.send(second)
        webhook.delete()
        assert not sending.send(third)
        assert (len(other.messages), len(receiver.messages)) == (1, 0)


@pytest.mark.django_db(transaction=True)
def test_two_senders_send_a_message_once(receiver: Receiver) -> None:
    webhook = Webhook.objects.create(url=receiver.url)
    WebhookDelivery.objects.create(webhook=webhook, event="ping", payload={}, next_attempt_at=timezone.now())
    seen = [sending.due(webhook, timezone.now())[0] for _ in range(4)]
    outcomes = []

    def attempt(delivery: WebhookDelivery) -> None:
        outcomes.append(sending.send(delivery))
        connection.close()

    threads = [threading.Thread(target=attempt, args=[delivery]) for delivery in seen]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [False, False, False, True]
    assert len(receiver.messages) == 1


def test_a_sender_that_died_gives_its_message_back(task: Task, receiver: Receiver) -> None:
    webhook = hook(receiver)
    now = timezone.now()
    delivery = WebhookDelivery.objects.create(webhook=webhook, event="ping", payload={}, next_attempt_at=now)
    assert sending._claim(delivery, now)
    assert not sending.due(webhook, now)
    assert sending.due(webhook, now + sending.LEASE + timedelta(seconds=1)) == [delivery]
    sending.take_back(now)
    assert sending.due(webhook, now) == [delivery]


def test_the_admin_shows_deliveries_and_sends_them_again(task: Task, receiver: Receiver) -> None:
    webhook = hook(receiver)
    receiver.answer = lambda number: 503 if number == 0 else 200
    projects.change_task(task, {"status": "done"})
    deliver_all()
    browser = Client()
    browser.force_login(User.objects.create_superuser("root"))
    listed = browser.get("/admin/tasks/webhookdelivery/").content.decode()
    assert "task.moved" in listed and "503" in listed and webhook.url in listed
    detail = browser.get(
        f"/admin/tasks/webhookdelivery/{WebhookDelivery.objects.get().pk}/change/"
    ).content.decode()
    assert "the receiver&#x27;s own words" in detail
    chosen = {"action": "send_again", "_selected_action": [str(WebhookDelivery.objects.get().pk)]}
    browser.post("/admin/tasks/webhookdelivery/", chosen)
    deliver_all()
    assert WebhookDelivery.objects.get().status == Status.DELIVERED
    browser.post("/admin/tasks/webhook/", {"action": "send_test", "_selected_action": [str(webhook.pk)]})
    deliver_all()
    assert receiver.messages[-1].json["type"] == "ping"


def test_what_waits_for_an_address_that_is_dead_does_not_wait_for_ever(task: Task, tmp_path: Path) -> None:
    webhook = Webhook.objects.create(url="http://127.0.0.1:9/", enabled=False)
    ages = [timedelta(0), service.KEEP_DELIVERIES + timedelta(hours=1)]
    made = [WebhookDelivery.objects.create(webhook=webhook, event="ping", payload={}) for _ in ages]
    for delivery, age in zip(made, ages, strict=True):
        WebhookDelivery.objects.filter(pk=delivery.pk).update(created_at=timezone.now() - age)
    service.WebhookSender(tmp_path / "lock")._prune()
    assert list(WebhookDelivery.objects.all()) == made[:1]


def test_what_follows_a_new_beginning_of_the_log_is_told(
    task: Task, receiver: Receiver, tmp_path: Path
) -> None:
    hook(receiver)
    sender = service.WebhookSender(tmp_path / "lock")
    while sender._collect():
        pass
    ChangeLog.start_over()
    assert sender._collect() == 0
    projects.change_task(task, {"status": "done"})
    while sender._collect():
        pass
    assert WebhookDelivery.objects.filter(event="task.moved").count() == 1


def test_what_goes_wrong_ends_no_sender(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sender = service.WebhookSender(tmp_path / "lock")
    sender._stopping.set()
    sender._began = True
    monkeypatch.setattr(sender, "_collect", lambda: 1 / 0)
    assert not sender._step()
    assert "ZeroDivisionError" in caplog.text


def test_only_superusers_name_addresses(task: Task) -> None:
    browser = Client()
    browser.force_login(User.objects.create_user("editor", is_staff=True))
    assert browser.get("/admin/tasks/webhook/").status_code == 403
    assert browser.get("/admin/tasks/webhook/add/").status_code == 403
    browser.force_login(User.objects.create_superuser("root"))
    added = browser.post("/admin/tasks/webhook/add/", {"url": "file:///etc/passwd", "events": "task.moved"})
    assert added.status_code == 200 and not Webhook.objects.exists()
    assert b"whsec_" not in browser.get("/admin/tasks/webhook/add/").content
    browser.post(
        "/admin/tasks/webhook/add/", {"url": "http://10.0.0.1/", "events": "task.moved", "enabled": "on"}
    )
    webhook = Webhook.objects.get()
    assert webhook.events == ["task.moved"]
    assert (
        escape(webhook.secret) in browser.get(f"/admin/tasks/webhook/{webhook.pk}/change/").content.decode()
    )


def test_a_server_that_ends_does_not_wait_for_a_receiver_that_dawdles(
    tmp_path: Path, receiver: Receiver
) -> None:
    receiver.drip = 0.1
    with LiveServer(tmp_path / "data", {"NO_PROXY": "*"}, typed=True) as server:
        make = (
            "from django.utils.timezone import now; from tasks.models import Webhook; "
            f"hook = Webhook.objects.create(url={receiver.url!r}); "
            "hook.deliveries.create(event='ping', payload={}, next_attempt_at=now())"
        )
        server.manage("shell", "-c", make)
        wait_for(lambda: receiver.messages, "the message")
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < sending.DEADLINE - 10


def test_nothing_is_lost_when_the_server_is_killed(tmp_path: Path, receiver: Receiver) -> None:
    """Changes go on, some by the API and some while no server runs, over many kills; each is told."""
    with LiveServer(tmp_path / "data", {"NO_PROXY": "*"}) as server:
        server.manage(
            "shell", "-c", f"from tasks.models import Webhook; Webhook.objects.create(url={receiver.url!r})"
        )
        headers = {"Authorization": f"Bearer {server.token()}"}
        # A change is told from here on, once the sender has taken its first look.
        wait_for(lambda: "1" in server.manage("shell", "-c", COUNT_CURSORS), "the sender's first look")
        with httpx.Client(base_url=server.url, headers=headers, trust_env=False, timeout=30) as api:
            project = api.get("/api/projects").json()[0]["id"]
            made = [
                api.post("/api/tasks", json={"project_id": project, "title": f"Task {number}"}).json()["id"]
                for number in range(2 * KILLS)
            ]
            receiver.answer = lambda number: 503 if number % 5 == 0 else 204
            for number in range(KILLS):
                api.patch(f"/api/tasks/{made[number]}", json={"status": "done"})
                time.sleep(0.1 * (number % 7))
                server.kill()
                server.manage("vibe", "task", "edit", made[KILLS + number], "--status", "cancelled")
                server.start()
            expected = {(task_id, "done" if n < KILLS else "cancelled") for n, task_id in enumerate(made)}

            def told() -> bool:
                found = [(m["data"]["task"]["id"], m["data"]["to"]) for m in receiver.of_type("task.moved")]
                assert len(found) == len(set(found)), "a change was told twice under two ids"
                return set(found) == expected

            wait_for(told, "all moves told", sending.LEASE.total_seconds() - 20)


COUNT_CURSORS = "from tasks.models import WebhookCursor; print(WebhookCursor.objects.count())"
