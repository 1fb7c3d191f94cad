// What an attempt changed, file by file, as it changes.

import { EventSourceManager } from "./event-source-manager.js";

const TOLD = ["note", "progress", "status"];

/**
 * `files` is the current state: path -> record, where a record is `{file, diff, change, old_path, additions,
 * deletions, omitted}`, always a file's whole diff. Events (CustomEvent):
 *  - "files": {changed: [path, …]}: these were set or taken away, gathered for one frame
 *  - "ready": the whole state has arrived
 *  - "finished": no more will follow
 *  - "note": {level, message}: something the reader should know; "progress": {done, total} of the first state;
 *    "status": {ahead, behind, dirty, conflicts} towards the target branch, whenever it changes
 *  - "state": {state, retryAt}, as of the EventSourceManager
 */
export class DiffStream extends EventTarget {
  #source;
  #changed = new Set();
  #stale = null;
  #frame = 0;

  constructor(attemptId, { cursor = null } = {}) {
    super();
    this.files = new Map();
    this.ready = false;
    this.finished = false;
    this.#source = new EventSourceManager(`/api/events/task-attempts/${attemptId}/diff`, { cursor, names: ["ready", ...TOLD] });
    this.#source.addEventListener("message", ({ detail }) => this.#take(detail));
    this.#source.addEventListener("state", ({ detail }) => this.#state(detail));
  }

  /** The EventSourceManager, for a sign of the line. */
  get manager() {
    return this.#source;
  }

  get state() {
    return this.#source.state;
  }

  start() {
    this.#source.start();
    return this;
  }

  close() {
    clearTimeout(this.#frame);
    this.#source.close();
  }

  #take({ type, data }) {
    if (type === "message") {
      this.#put(JSON.parse(data));
    } else if (type === "reset") {
      // Kept until the new state is whole, so that the reader's page does not empty and fill again.
      this.#stale = new Set(this.files.keys());
      this.ready = false;
    } else if (TOLD.includes(type)) {
      this.dispatchEvent(new CustomEvent(type, { detail: JSON.parse(data) }));
    } else if (type === "ready" || type === "finished") {
      this.#settle();
      if (type === "finished") this.finished = true;
      this.dispatchEvent(new CustomEvent(type));
    }
  }

  #put(record) {
    if (record.change === "reverted") this.files.delete(record.file);
    else this.files.set(record.file, record);
    this.#stale?.delete(record.file);
    this.#note(record.file);
  }

  #settle() {
    for (const path of this.#stale ?? []) {
      this.files.delete(path);
      this.#note(path);
    }
    this.#stale = null;
    this.ready = true;
    this.#flush();
  }

  /** Changes are handed on at once; of a first state, which may be of thousands of files, now and then. */
  #note(path) {
    this.#changed.add(path);
    this.#frame ||= setTimeout(() => this.#flush(), this.ready ? 16 : 150);
  }

  #flush() {
    clearTimeout(this.#frame);
    this.#frame = 0;
    const changed = [...this.#changed];
    this.#changed.clear();
    if (changed.length) this.dispatchEvent(new CustomEvent("files", { detail: { changed } }));
  }

  #state(detail) {
    if (detail.state === "finished") this.finished = true;
    this.dispatchEvent(new CustomEvent("state", { detail }));
  }
}
