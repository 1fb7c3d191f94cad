// What an attempt changed, file by file, as it changes.

import { Stream } from "./stream.js";

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
export class DiffStream extends Stream {
  #changed = new Set();
  #stale = null;

  constructor(attemptId, { cursor = null } = {}) {
    super(`/api/events/task-attempts/${attemptId}/diff?status=1`, { cursor, names: ["ready", ...TOLD] });
    this.files = new Map();
    this.ready = false;
    this.finished = false;
    this.addEventListener("state", ({ detail }) => (this.finished ||= detail.state === "finished"));
  }

  take({ type, data }) {
    if (type === "message") {
      this.#put(JSON.parse(data));
    } else if (type === "reset") {
      // Kept until the new state is whole, so that the reader's page does not empty and fill again.
      this.#stale = new Set(this.files.keys());
      this.ready = false;
    } else if (TOLD.includes(type)) {
      this.emit(type, JSON.parse(data));
    } else if (type === "ready" || type === "finished") {
      this.#settle();
      this.finished ||= type === "finished";
      this.emit(type);
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
    this.flushNow();
  }

  /** Changes are handed on at once; of a first state, which may be of thousands of files, now and then. */
  #note(path) {
    this.#changed.add(path);
    this.flushIn(this.ready ? 16 : 150);
  }

  flush() {
    const changed = [...this.#changed];
    this.#changed.clear();
    if (changed.length) this.emit("files", { changed });
  }
}
