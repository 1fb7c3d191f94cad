"""Run as a program: carries out operations on attempts, each in a process of its own that the test may kill.

Reads lines `merge|rebase|discard <attempt>`, and answers each with the process's id, then with its exit code.
"""

import os
import sys

import django


def main() -> None:
    django.setup()
    from django.contrib.auth.models import User

    from tasks.finishing import finish
    from tasks.models import TaskAttempt

    for line in sys.stdin:
        name, attempt_id = line.split()
        child = os.fork()
        if child == 0:
            os.setsid()
            attempt = TaskAttempt.objects.get(pk=attempt_id)
            user = User.objects.get(username="admin")
            if name == "merge":
                finish.merge(attempt, "merge", user)
            elif name == "rebase":
                finish.rebase(attempt, user)
            else:
                finish.discard(attempt, user)
            os._exit(0)
        say(child)
        say(os.waitpid(child, 0)[1])


def say(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
