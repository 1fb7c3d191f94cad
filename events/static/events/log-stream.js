// The output of one process as it is printed.

import { Stream } from "./stream.js";

/** Records are handed on together this often, in milliseconds: a program prints faster than a page can draw. */
const GATHER = 40;

/**
 * Events (CustomEvent):
 *  - "records": {records: [{type, content, timestamp}, …]} in order, each once;
 *    `partial` is true where the line goes on in the next record of the same type
 *  - "reset": what was shown is no longer true; the records that follow start over
 *  - "finished": {status, exit_code}, after the last records
 *  - "state": {state, retryAt}, as of the EventSourceManager
 */
export class LogStream extends Stream {
  #gathered = [];

  /**
   * @param {string} processId
   * @param {object} options cursor: the id to follow on from; parameters: further ones of the stream (tail, view)
   */
  constructor(processId, { cursor = null, parameters = {} } = {}) {
    const query = new URLSearchParams(parameters).toString();
    super(`/api/events/processes/${processId}/logs${query ? `?${query}` : ""}`, { cursor });
  }

  take({ type, data, id }) {
    if (type === "message") {
      const record = JSON.parse(data);
      if (id.endsWith("p")) record.partial = true;
      this.#gathered.push(record);
      this.flushIn(GATHER);
    } else if (type === "reset") {
      this.#gathered = [];
      this.emit("reset");
    } else if (type === "finished") {
      this.flushNow();
      this.emit("finished", JSON.parse(data));
    }
  }

  flush() {
    const records = this.#gathered;
    this.#gathered = [];
    if (records.length) this.emit("records", { records });
  }
}
