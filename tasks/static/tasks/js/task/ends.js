// Tells a reader who is elsewhere that a run of the agent has ended, of whatever task of the project: this tab may
// be the only one of the browser that stays connected while hidden.

import { api } from "../api.js";
import { justEnded, tell } from "../notifications.js";
import { stateName } from "./words.js";

export function tellOfEnds(document) {
  document.addEventListener("operation", async ({ detail }) => {
    const id = justEnded(detail);
    if (!id || (globalThis.document.visibilityState === "visible" && globalThis.document.hasFocus())) return;
    // Without the record nothing can be told; the board shows the end all the same.
    const found = await look(document, id).catch(() => null);
    if (found?.run.run_reason !== "codingagent") return;
    const { run, task } = found;
    const words = run.status === "completed" ? "The agent is done: ready for review" : stateName(run.status);
    tell(run.id, task.title, words, `/tasks/${task.id}/?run=${run.id}`);
  });
}

async function look(document, id) {
  const known = document.run(id);
  if (known) return { run: known, task: document.task };
  const run = await api.get(`/api/processes/${id}`);
  const attempt = await api.get(`/api/task-attempts/${run.task_attempt_id}`);
  return { run, task: await api.get(`/api/tasks/${attempt.task_id}`) };
}
