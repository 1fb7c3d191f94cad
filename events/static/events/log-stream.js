// The output of one process as it is printed.

import { EventSourceManager } from "./event-source-manager.js";

/** Records are handed on together this often, in milliseconds: a program prints faster than a page can draw. */
const GATHER = 40;

/**
 * Events (CustomEvent):
 *  - "records": {records: [{type, content, timestamp}, …]} in order, each once
 *  - "reset": what was shown is no longer true; the records that follow start over
 *  - "finished": {status, exit_code}, after the last records
 *  - "state": {state, retryAt}, as of the EventSourceManager
 */
export class LogStream extends EventTarget {
  #source;
  #gathered = [];
  #timer = 0;

  /**
   * @param {string} processId
   * @param {object} options cursor: the id to follow on from; parameters: further ones of the stream (tail, view)
   */
  constructor(processId, { cursor = null, parameters = {} } = {}) {
    super();
    const query = new URLSearchParams(parameters).toString();
    const url = `/api/events/processes/${processId}/logs${query ? `?${query}` : ""}`;
    this.#source = new EventSourceManager(url, { cursor });
    this.#source.addEventListener("message", ({ detail }) => this.#take(detail));
    this.#source.addEventListener("state", ({ detail }) => this.#emit("state", detail));
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
    clearTimeout(this.#timer);
    this.#source.close();
  }

  #take({ type, data }) {
    if (type === "message") {
      this.#gathered.push(JSON.parse(data));
      this.#timer ||= setTimeout(() => this.#flush(), GATHER);
      return;
    }
    if (type === "reset") {
      this.#gathered = [];
      this.#emit("reset", null);
    } else if (type === "finished") {
      this.#flush();
      this.#emit("finished", JSON.parse(data));
    }
  }

  #flush() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    const records = this.#gathered;
    this.#gathered = [];
    if (records.length) this.#emit("records", { records });
  }

  #emit(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}
