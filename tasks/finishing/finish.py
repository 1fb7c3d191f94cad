"""How an attempt ends: merged or discarded, after as many rebases as it takes. All or nothing, whatever happens.

Each operation is prepared as objects alone (merging.py), written down (journal.py), and then carried out in this
order: files of a checkout, references in one transaction, index, the attempt's record. Up to the
references everything is put back on failure; from then on everything is carried through, if need be by
`recover` at the next start. So git and the record agree, and what people see is one of two states.
"""

import logging
from pathlib import Path
from typing import Final
from uuid import UUID

from django.contrib.auth.models import User
from django.utils import timezone

from tasks import git, identity, snapshots, worktrees
from tasks.diffs.parse import shown
from tasks.errors import Refused
from tasks.finishing import checkouts, journal, merging, operations
from tasks.finishing.journal import FileUpdate, Move, Operation
from tasks.finishing.operations import recover
from tasks.finishing.standing import status
from tasks.finishing.upkeep import expire_kept_refs, remove_ended_worktrees
from tasks.models import TaskAttempt

__all__ = [
    "STRATEGIES", "discard", "drop_worktree", "expire_kept_refs", "merge", "rebase", "recover",
    "remove_ended_worktrees", "status",
]  # fmt: skip

logger = logging.getLogger("tasks")

STRATEGIES: Final = ("merge", "squash", "ff")
_TRIES: Final = 3


def merge(attempt: TaskAttempt, strategy: str, user: User) -> TaskAttempt:
    """Brings the attempt into its target branch: `merge` (a merge commit), `squash` (one commit) or `ff`.

    Work that is not committed is committed to the attempt's branch first: what the diff shows is what is merged.
    Raises Refused (409, with the files in conflict), and then nothing has changed.
    """
    if strategy not in STRATEGIES:
        raise Refused(f"{strategy!r} is no way to merge: use {', '.join(STRATEGIES)}.", 422)
    return _carry_out(attempt, lambda fresh: _plan_merge(fresh, strategy, user))


def rebase(attempt: TaskAttempt, user: User) -> TaskAttempt:
    """Puts the attempt's commits on top of its target branch, which becomes its base. Work that is not committed
    is carried along and stays uncommitted. Raises Refused (409, with the files), and then nothing has changed.
    """
    return _carry_out(attempt, lambda fresh: _plan_rebase(fresh, user))


def discard(attempt: TaskAttempt, user: User) -> TaskAttempt:
    """Ends the attempt without its work, and removes its worktree and branch. Commits and uncommitted work are
    kept under `refs/vibe/kept/<attempt>` for 30 days (the record's `kept_ref`). Raises Refused (409).
    """
    return _carry_out(attempt, lambda fresh: _plan_discard(fresh, user))


def drop_worktree(attempt: TaskAttempt) -> None:
    """Removes the attempt's worktree, before its record is deleted. Uncommitted work is kept; the branch stays.

    Where git cannot read the worktree any more, the folder stays where it is.
    """
    repo = Path(attempt.task.project.repo_path)
    if worktrees.existing(attempt.worktree) is not None and git.is_there(repo):
        try:
            with journal.only_one(repo):
                folder = worktrees.existing(attempt.worktree)  # Who deletes the same may have been first.
                if folder is not None:
                    worktrees.keep_work(repo, folder, attempt.pk, branch=attempt.branch)
                    operations.remove_worktree(repo, folder, attempt.pk)
        except git.GitError as error:
            logger.warning("The worktree %s stays, as its work cannot be kept: %s", attempt.worktree, error)
    attempt.worktree = None
    TaskAttempt.objects.filter(pk=attempt.pk).update(worktree=None, updated_at=timezone.now())


# --- the frame


def _carry_out(attempt: TaskAttempt, plan: operations.Planner) -> TaskAttempt:
    repo = Path(attempt.task.project.repo_path)
    if not git.is_there(repo):
        raise Refused(f"The repository {repo} is gone.")
    with journal.only_one(repo):
        for _ in range(_TRIES):
            try:
                _settle(attempt)
                operations.execute(plan(_fetch(attempt.pk)))
                return _fetch(attempt.pk, any_outcome=True)
            except operations.Moved as moved:
                # Somebody committed in the meantime: look again at what there is now.
                logger.info("Attempt %s: %s", attempt.pk, moved)
            except operations.Unfinished as error:
                logger.error("Attempt %s: %s", attempt.pk, error)
                raise Refused(f"Half done: {error}. The next try or start ends it.") from error
            except git.GitError as error:
                logger.warning("Attempt %s: %s", attempt.pk, error)
                raise Refused(f"git refused: {error.reason}. Nothing was changed.") from error
    raise Refused("The branches keep changing: nothing was changed. Try again.")


def _settle(attempt: TaskAttempt) -> None:
    interrupted = journal.read(attempt.pk)
    if interrupted is not None:
        operations.settle(interrupted)


def _fetch(attempt_id: UUID, *, any_outcome: bool = False) -> TaskAttempt:
    """The record as it is now; Refused where it has ended or a run goes on in it."""
    attempt = TaskAttempt.objects.select_related("task__project").get(pk=attempt_id)
    if any_outcome:
        return attempt
    if attempt.outcome != TaskAttempt.Outcome.OPEN:
        raise Refused(f"The attempt is {attempt.get_outcome_display().lower()} already.")
    operations.check_idle(attempt)
    return attempt


def _tips(repo: Path, attempt: TaskAttempt) -> tuple[str, str]:
    """The commits of the attempt's branch and of its target branch; Refused where one of them is gone."""
    if not attempt.base_commit:
        raise Refused("The attempt has not begun: it has no branch.")
    tips = []
    names = (attempt.branch, attempt.target_branch)
    for name, commit in zip(names, git.branch_commits(repo, *names), strict=True):
        if commit is None:
            raise Refused(f"The repository {repo} has no branch {name!r} any more.")
        tips.append(commit)
    return tips[0], tips[1]


def _check_worktree(folder: Path, branch: str, tip: str, *, follows: bool = False) -> None:
    """Refused where what lies in the worktree is not what the branch is about, or, where it has to follow the branch
    (`follows`), cannot do so."""
    checkouts.check_quiet(folder)
    head = git.head_branch(folder)
    if head != branch and (follows or git.commit_of(folder, "HEAD") != tip):
        where = f"the branch {head!r}" if head else "no branch"
        raise Refused(
            f"The worktree {folder} is on {where}, not on the attempt's own {branch!r}. Check that out there first."
        )


def _check_nowhere_else(repo: Path, attempt: TaskAttempt) -> None:
    """Refused where another worktree than the attempt's has its branch checked out, and could not follow it."""
    own = Path(attempt.worktree).resolve() if attempt.worktree else None
    for place, ref in git.checkouts(repo).items():
        if ref == f"refs/heads/{attempt.branch}" and place.resolve() != own:
            raise Refused(
                f"The attempt's branch {attempt.branch} is checked out in {place}. Check out another one there first: "
                "nothing was changed."
            )


# --- merge


def _plan_merge(attempt: TaskAttempt, strategy: str, user: User) -> Operation:
    repo, folder = Path(attempt.task.project.repo_path), worktrees.existing(attempt.worktree)
    old, target = _tips(repo, attempt)
    env = identity.environment(repo, user)
    tip = _with_leftovers(attempt, folder, old, env)
    if tip == attempt.base_commit:
        gone = worktrees.what_is_gone(attempt)
        raise Refused(f"There is nothing to merge: the attempt has changed nothing. {gone}".rstrip())
    new = target if git.is_ancestor(repo, tip, target) else _merged(repo, attempt, strategy, target, tip, env)
    if tip != old:
        _check_nowhere_else(repo, attempt)
    ref = git.real_ref(repo, attempt.target_branch)
    moves = [
        Move(ref, target, new),
        Move(f"refs/heads/{attempt.branch}", old, tip),
        Move(
            worktrees.merged_ref(attempt.pk), git.commit_of(repo, worktrees.merged_ref(attempt.pk)) or "", tip
        ),
    ]
    return Operation(
        attempt=str(attempt.pk),
        repo=str(repo),
        reason=f"vibe: {strategy} {attempt.branch}",
        moves=tuple(moves),
        files=_checked_out(repo, ref, target, new) if new != target else None,
        fresh_index=str(folder) if folder is not None and tip != old else "",
        record={"outcome": TaskAttempt.Outcome.MERGED.value, "merge_commit": new},
        done=True,
    )


def _with_leftovers(attempt: TaskAttempt, folder: Path | None, tip: str, env: dict[str, str]) -> str:
    """The branch's commit, with what is not committed yet as one more on top."""
    if folder is None:
        return tip
    _check_worktree(folder, attempt.branch, tip)
    taken = snapshots.take(folder)
    return merging.commit(folder, taken.tree, [tip], attempt.task.title, env) if taken.dirty else tip


def _merged(
    repo: Path, attempt: TaskAttempt, strategy: str, target: str, tip: str, env: dict[str, str]
) -> str:
    if strategy == "ff":
        if not git.is_ancestor(repo, target, tip):
            raise Refused(f"{attempt.target_branch} has commits that the attempt lacks: rebase it first.")
        return tip
    found = merging.merge(repo, target, tip)
    if found.conflicts:
        raise Refused(
            f"The attempt and {attempt.target_branch} change the same places. Nothing was changed.",
            files=found.conflicts,
        )
    title = attempt.task.title
    if strategy == "squash":
        text = f"{title}\n\n{attempt.task.description}".strip() + "\n"
        return merging.commit(repo, found.tree, [target], text, env)
    text = f"Merge branch '{attempt.branch}' into {attempt.target_branch}\n\n{title}\n"
    return merging.commit(repo, found.tree, [target, tip], text, env)


def _checked_out(repo: Path, ref: str, old: str, new: str) -> FileUpdate | None:
    """The update of the working copy that has the target branch checked out, where there is one."""
    if git.is_bare(repo):
        raise Refused(
            f"{repo} is configured as a bare repository, so its files would stay as they are. Change that first: "
            "git config core.bare false"
        )
    found = []
    for folder, checked_out in git.checkouts(repo).items():
        if checked_out is None:
            checkouts.check_not_rebased(folder, ref)
        elif checked_out == ref:
            found.append(folder)
    if len(found) > 1:
        places = ", ".join(map(str, found))
        raise Refused(
            f"The branch is checked out more than once ({places}), and only one of them can follow it."
        )
    if not found:
        return None
    checkouts.check_quiet(found[0])
    checkouts.check_clean(found[0])
    before, after = git.trees_of(repo, old, new)
    return FileUpdate(str(found[0]), before, after, index_tree=after)


# --- rebase


def _plan_rebase(attempt: TaskAttempt, user: User) -> Operation:
    repo, folder = Path(attempt.task.project.repo_path), worktrees.existing(attempt.worktree)
    old, target = _tips(repo, attempt)
    env = identity.environment(repo, user)
    files = None
    try:
        new = old if git.is_ancestor(repo, target, old) else merging.rebased(repo, old, target, env)
        if new != old:
            _check_nowhere_else(repo, attempt)
        if folder is not None:
            _check_worktree(folder, attempt.branch, old, follows=new != old)
            if new != old:
                files = _carried_along(repo, folder, old, new, env)
    except merging.Conflict as conflict:
        raise Refused(
            f"“{conflict.subject}” does not fit on top of {attempt.target_branch}. Nothing was changed.",
            files=conflict.files,
        ) from conflict
    return Operation(
        attempt=str(attempt.pk),
        repo=str(repo),
        reason=f"vibe: rebase onto {attempt.target_branch}",
        moves=(Move(f"refs/heads/{attempt.branch}", old, new),),
        files=files,
        record={"base_commit": target},
    )


def _carried_along(repo: Path, folder: Path, old: str, new: str, env: dict[str, str]) -> FileUpdate:
    """The worktree after the rebase: the new commit, with the work that was not committed on top."""
    taken = snapshots.take(folder)
    goal = git.tree_of(repo, new)
    tree = goal
    if taken.dirty:
        work = merging.commit(repo, taken.tree, [old], "uncommitted work", env)
        found = merging.picked(repo, work, old, goal, env)
        if found.conflicts:
            raise merging.Conflict("Work that is not committed", found.conflicts)
        tree = found.tree
    update = FileUpdate(str(folder), taken.tree, tree, index_tree=goal, dirty=taken.dirty)
    checkouts.check_submodules(update)
    return update


# --- discard


def _plan_discard(attempt: TaskAttempt, user: User) -> Operation:
    repo, folder = Path(attempt.task.project.repo_path), worktrees.existing(attempt.worktree)
    ref = worktrees.kept_ref(attempt.pk)
    tip, before = git.commits_of(repo, f"refs/heads/{attempt.branch}", ref)
    if not attempt.base_commit:
        tip = None  # A branch of that name is not the attempt's: it may be why there is none.
    if tip is not None:
        _check_nowhere_else(repo, attempt)
    env = identity.environment(repo, user)
    kept = _kept(repo, attempt, folder, tip, env)
    moves = [Move(ref, before or "", kept)] if kept else []
    if tip is not None:
        moves.append(Move(f"refs/heads/{attempt.branch}", tip, ""))
    return Operation(
        attempt=str(attempt.pk),
        repo=str(repo),
        reason=f"vibe: discard {shown(attempt.branch)}",
        moves=tuple(moves),
        remove=attempt.worktree or "",
        record={
            "outcome": TaskAttempt.Outcome.DISCARDED.value,
            "kept_ref": ref if kept else "",
            "worktree": None,
        },
    )


def _kept(repo: Path, attempt: TaskAttempt, folder: Path | None, tip: str | None, env: dict[str, str]) -> str:
    """A commit, made now, with all that would be lost otherwise; empty where nothing would."""
    parents = [tip] if tip else []
    tree = git.tree_of(repo, tip) if tip else ""
    inner: list[str] = []
    dirty = False
    if folder is not None:
        taken = snapshots.take(folder)
        inner = snapshots.inner_work(folder)
        tree, dirty = taken.tree, taken.dirty
        # A branch that somebody deleted leaves the worktree without a commit.
        head = taken.head or attempt.base_commit
        if head != tip:
            parents = [head, *(parent for parent in parents if not git.is_ancestor(repo, parent, head))]
        parents += filter(None, [snapshots.staged_alone(folder, taken, env)])
    if not parents or not (dirty or inner or any(parent != attempt.base_commit for parent in parents)):
        return ""
    return merging.commit(repo, tree, parents, _kept_message(attempt, inner), env)


def _kept_message(attempt: TaskAttempt, inner: list[str]) -> str:
    said = f"Discarded: {attempt.task.title}\n"
    if inner:
        names = "\n".join(shown(name) for name in inner)
        said += f"\nRepositories inside it lie in {operations.kept_folder(attempt.pk)}:\n{names}\n"
    return said
