// What the cards show, computed from the document. tasks/board/boards.py computes the same on the server.

export const STATUSES = ["todo", "inprogress", "inreview", "done", "cancelled"];

export const STATUS_WORDS = {
  todo: "To do",
  inprogress: "In progress",
  inreview: "In review",
  done: "Done",
  cancelled: "Cancelled",
};

export const STATE_WORDS = {
  queued: "Queued",
  running: "Running",
  failed: "Failed",
  killed: "Stopped",
  interrupted: "Interrupted",
  review: "Needs review",
};

const text = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
const byPlace = (a, b) => a.position - b.position || text(a.created_at, b.created_at) || text(a.id, b.id);

/** Map of status -> cards in order. `moves` holds moves that are under way: id -> {status, position}. */
export function columns(document, moves = new Map()) {
  const attempts = latest(Object.values(document.task_attempts), "task_id");
  const runs = Object.values(document.execution_processes).filter((run) => run.run_reason !== "devserver");
  const latestRuns = latest(runs, "task_attempt_id");
  const found = new Map(STATUSES.map((status) => [status, []]));
  const tasks = Object.values(document.tasks).map((task) => (moves.has(task.id) ? { ...task, ...moves.get(task.id) } : task));
  for (const task of tasks.sort(byPlace)) {
    const attempt = attempts.get(task.id);
    found.get(task.status).push(card(task, attempt, attempt && latestRuns.get(attempt.id)));
  }
  return found;
}

const goesOn = (record) => Number(record.status === "running");
const byAge = (a, b) => goesOn(a) - goesOn(b) || text(a.created_at, b.created_at) || text(a.id, b.id);

/** Of each owner the record that is latest, or of its runs the one that goes on: others may wait behind it. */
function latest(records, owner) {
  const found = new Map();
  for (const record of records) {
    const other = found.get(record[owner]);
    if (!other || byAge(other, record) < 0) found.set(record[owner], record);
  }
  return found;
}

function card(task, attempt, run) {
  return {
    id: task.id,
    title: task.title,
    description: task.description,
    status: task.status,
    position: task.position,
    labels: task.labels,
    attempt: attempt?.id ?? "",
    agent: attempt?.executor ?? "",
    run: run?.id ?? "",
    state: state(task.status, run),
    startedAt: run?.started_at ?? null,
    completedAt: run?.completed_at ?? null,
  };
}

function state(status, run) {
  if (!run) return "";
  if (run.status === "queued" || run.status === "running") return run.status;
  if (status === "done" || status === "cancelled") return "";
  if (run.status === "completed") return status === "inreview" ? "review" : "";
  return run.status;
}

const GAP = 1024;

/** The position between the cards at `place - 1` and `place` of `cards`, which must not hold the moved ones. */
export function positionAt(cards, place) {
  const before = cards[place - 1]?.position;
  const after = cards[place]?.position;
  if (before === undefined && after === undefined) return GAP;
  if (before === undefined) return after - GAP;
  if (after === undefined) return before + GAP;
  return (before + after) / 2;
}
