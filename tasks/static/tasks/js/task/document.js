// One task with its attempts and runs, kept true by the project's stream of changes.

import { EventSourceManager } from "../../../events/event-source-manager.js";
import { applyPatch, PatchError } from "../../../events/patch-document.js";
import { inNextFrame } from "../dom.js";
import { justEnded, keepWatching } from "../notifications.js";

const TABLES = ["projects", "tasks", "task_attempts", "execution_processes"];
const byAge = (a, b) => (a.created_at < b.created_at ? -1 : a.created_at > b.created_at ? 1 : a.id < b.id ? -1 : 1);

/**
 * Events: "change", once a frame, after the records have all changes that have come; "ended" {id}, when a run
 * of any task of the project has just ended.
 */
export class TaskDocument extends EventTarget {
  #removed = new Set();
  #emit = inNextFrame(() => this.dispatchEvent(new CustomEvent("change")));

  /** @param {object} state what the page was rendered from, with its `cursor` */
  constructor({ cursor, task, project, attempts, processes }) {
    super();
    this.taskId = task.id;
    this.document = {
      projects: { [project.id]: project },
      tasks: { [task.id]: task },
      task_attempts: byId(attempts),
      execution_processes: byId(processes),
    };
    this.manager = new EventSourceManager(`/api/events/?project_id=${project.id}`, { cursor, keepHidden: keepWatching, share: true });
    this.manager.addEventListener("message", ({ detail }) => detail.type === "message" && this.apply(JSON.parse(detail.data)));
  }

  start() {
    this.manager.start();
    return this;
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

  /** One operation of the stream; those on records of other tasks change nothing here. */
  apply(operation) {
    try {
      if (operation.path === "") this.document = this.#narrowed(operation.value ?? {});
      else if (this.#concerns(operation)) this.document = applyPatch(this.document, operation);
      else return this.#tellEnd(operation);
    } catch (error) {
      if (!(error instanceof PatchError)) throw error;
      console.error("A change does not fit this page's copy; it starts over.", operation, error);
      return this.manager.restart(null);
    }
    if (operation.op === "remove") this.#removed.add(operation.path);
    this.#emit();
    return this.#tellEnd(operation);
  }

  #tellEnd(operation) {
    const id = justEnded(operation);
    if (id) this.dispatchEvent(new CustomEvent("ended", { detail: { id } }));
  }

  /** Takes in a record that a request answered with, so that the page need not wait for the stream to say it. */
  put(table, record) {
    const known = this.document[table][record.id];
    if (known ? known.updated_at >= record.updated_at : this.#removed.has(`/${table}/${record.id}`)) return;
    this.document[table][record.id] = record;
    this.#emit();
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
