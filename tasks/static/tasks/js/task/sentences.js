// Entries of a history as sentences that begin with who did it. Pure.

import { STATUS_WORDS } from "../board/model.js";
import { runName } from "./words.js";

const ENDS = { completed: "completed", failed: "failed", killed: "stopped", interrupted: "interrupted" };
/** What follows from other things that are told, or is for machines. */
const UNTOLD = new Set([
  "position", "worktree", "branch", "base_commit", "merge_commit", "started_at", "completed_at", "before_head_commit", "after_head_commit",
]);
const LONGEST = 120;

/**
 * What attempts and runs are called, by id: those that are there, and those of which an entry says that they went.
 * @param {object} document {attempts, runs(attemptId)}, oldest first
 * @returns {Map<string, {name: string, attempt?: object}>}
 */
export function namesOf(entries, document) {
  const names = new Map();
  const removed = (table) => entries.filter((entry) => entry.operation === "remove" && entry.table === table);
  for (const { object_id: id, old } of removed("task_attempts")) names.set(id, { name: `the attempt on ${old.branch}`, attempt: old });
  document.attempts.forEach((attempt, i) => {
    const name = `attempt #${i + 1}`;
    names.set(attempt.id, { name, attempt });
    const runs = document.runs(attempt.id);
    for (const run of runs) names.set(run.id, { name: `${inASentence(runName(run, runs))} of ${name}` });
  });
  for (const { object_id: id, old } of removed("execution_processes")) {
    names.set(id, { name: `${inASentence(runName(old, []))} of ${names.get(old.task_attempt_id)?.name ?? "an attempt"}` });
  }
  return names;
}

/**
 * @param {{table: string, object_id: string, operation: string, field: string, old: any, value: any}} entry
 * @param {Map<string, {name: string, attempt?: object}>} names by id
 * @returns {string} empty where there is nothing to tell
 */
export function sentence(entry, names) {
  const { table, operation, field } = entry;
  if (UNTOLD.has(field)) return "";
  const known = names.get(entry.object_id);
  if (operation === "move") return "moved it to another project";
  if (table === "tasks") return aboutTask(entry);
  if (table === "task_attempts") return aboutAttempt(entry, known);
  if (table === "execution_processes") return aboutRun(entry, known);
  return field ? `set ${field.replaceAll("_", " ")} to ${brief(entry.value)}` : "";
}

function aboutTask({ operation, field, old, value }) {
  if (!field) return operation === "add" ? "made the task" : "deleted the task";
  if (field === "status") return `moved the task from ${STATUS_WORDS[old] ?? old} to ${STATUS_WORDS[value] ?? value}`;
  if (field === "title") return `renamed the task from ${brief(old)} to ${brief(value)}`;
  if (field === "description") return "changed the description";
  if (field === "labels") return value?.length ? `set the labels to ${value.join(", ")}` : "took the labels off";
  return `set the task’s ${field.replaceAll("_", " ")} to ${brief(value)}`;
}

function aboutAttempt({ operation, field, value }, known) {
  const name = known?.name ?? "an attempt";
  if (!field && operation === "add") return `started ${name}${known ? ` with ${known.attempt.executor}` : ""}`;
  if (!field) return `deleted ${name}`;
  if (field === "outcome") return `${value} ${name}`;
  if (field === "kept_ref") return value ? `kept the work of ${name} as ${value}` : "";
  return `set the ${field.replaceAll("_", " ")} of ${name} to ${brief(value)}`;
}

function aboutRun({ operation, field, old, value }, known) {
  const name = known?.name ?? "a run";
  if (!field && operation === "add") return `queued ${name}`;
  if (!field) return old?.status === "queued" ? `took back ${name}: ${brief(old.prompt)}` : `deleted ${name}`;
  if (field === "status" && ENDS[value]) return `ended ${name}: ${ENDS[value]}`;
  if (field === "status") return value === "running" ? `started ${name}` : `put ${name} back into the queue`;
  if (field === "exit_code") return value ? `noted exit code ${value} of ${name}` : "";
  if (field === "prompt") return `changed the prompt of ${name}`;
  return `set the ${field.replaceAll("_", " ")} of ${name} to ${brief(value)}`;
}

function inASentence(name) {
  return name.startsWith("Follow-up") ? name.toLowerCase() : `the ${name.toLowerCase()}`;
}

function brief(value) {
  if (value === null || value === undefined || value === "") return "nothing";
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return `“${text.length > LONGEST ? `${text.slice(0, LONGEST)}…` : text}”`;
}
