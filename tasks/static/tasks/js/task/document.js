// One task with its attempts and runs, kept true by the project's stream of changes.

import { LiveDocument } from "../live.js";

const TABLES = ["projects", "tasks", "task_attempts", "execution_processes"];
const byAge = (a, b) => (a.created_at < b.created_at ? -1 : a.created_at > b.created_at ? 1 : a.id < b.id ? -1 : 1);

/** Operations on records of other tasks are told as the others are, but change nothing here. */
export class TaskDocument extends LiveDocument {
  #removed = new Set();

  /** @param {object} state what the page was rendered from, with its `cursor` */
  constructor({ cursor, task, project, attempts, processes }) {
    const document = {
      projects: { [project.id]: project },
      tasks: { [task.id]: task },
      task_attempts: byId(attempts),
      execution_processes: byId(processes),
    };
    super(`/api/events/?project_id=${project.id}`, document, cursor);
    this.taskId = task.id;
  }

  /** The task's record, or null once it is deleted or no longer to be seen. */
  get task() {
    return this.document.tasks[this.taskId] ?? null;
  }

  get project() {
    return Object.values(this.document.projects)[0] ?? null;
  }

  /** Oldest first. */
  get attempts() {
    return Object.values(this.document.task_attempts).sort(byAge);
  }

  attempt(id) {
    return this.document.task_attempts[id] ?? null;
  }

  /** The runs of an attempt, oldest first. */
  runs(attemptId) {
    return Object.values(this.document.execution_processes).filter((run) => run.task_attempt_id === attemptId).sort(byAge);
  }

  run(id) {
    return this.document.execution_processes[id] ?? null;
  }

  take(operation) {
    if (operation.path === "") this.document = this.#narrowed(operation.value ?? {});
    else if (!this.#concerns(operation)) return false;
    else super.take(operation);
    if (operation.op === "remove") this.#removed.add(operation.path);
    return true;
  }

  /** Takes in a record that a request answered with, so that the page need not wait for the stream to say it. */
  put(table, record) {
    const known = this.document[table][record.id];
    if (known ? known.updated_at >= record.updated_at : this.#removed.has(`/${table}/${record.id}`)) return;
    this.document[table][record.id] = record;
    this.changed();
  }

  #concerns({ op, path, value }) {
    const [, table, id, field] = path.split("/");
    if (!TABLES.includes(table)) return false;
    if (this.document[table][id]) return true;
    return op === "add" && field === undefined && this.#belongs(table, value, this.document);
  }

  #belongs(table, record, document) {
    if (table === "task_attempts") return record.task_id === this.taskId;
    if (table === "execution_processes") return record.task_attempt_id in document.task_attempts;
    if (table === "tasks") return record.id === this.taskId;
    return record.id === document.tasks[this.taskId]?.project_id;
  }

  #narrowed(whole) {
    const document = { projects: {}, tasks: {}, task_attempts: {}, execution_processes: {} };
    for (const table of ["tasks", "projects", "task_attempts", "execution_processes"]) {
      for (const record of Object.values(whole[table] ?? {})) {
        if (this.#belongs(table, record, document)) document[table][record.id] = record;
      }
    }
    return document;
  }
}

function byId(records) {
  return Object.fromEntries(records.map((record) => [record.id, record]));
}
