// The lines of one run: ranges of the past from REST, what follows from the stream, numbered without a gap.

import { LogStream } from "../../events/log-stream.js";
import { api } from "./api.js";
import { LinePages, PAGE } from "./line-pages.js";

/**
 * Events: "lines" {first, last, fresh}: lines [first, last) came into memory, `fresh` when just printed;
 * "reset": all lines are other ones now; "state": `error`, `line` (of the stream) or `finished` changed.
 */
export class LogSource extends EventTarget {
  constructor(processId, { ended = false, watch = () => {} } = {}) {
    super();
    this.processId = processId;
    this.url = `/api/processes/${processId}/logs`;
    this.ended = ended;
    this.watch = watch;
    this.finished = null;
    this.error = "";
    this.line = "connecting";
    this.pages = new LinePages((first, count) => this.#load(first, count));
    this.stream = null;
    this.closed = false;
  }

  get total() {
    return this.pages.total;
  }

  get(index) {
    return this.pages.get(index);
  }

  close() {
    this.closed = true;
    this.unwatch?.();
    this.stream?.close();
  }

  /** Loads the last lines and follows what comes after them. */
  async open() {
    try {
      const answer = await this.#load(-PAGE, PAGE);
      if (this.closed) return;
      this.pages.put(answer.first, answer.records);
      this.cursor = answer.cursor;
      this.#emit("lines", { first: answer.first, last: answer.first + answer.records.length, fresh: false });
    } catch (error) {
      this.#failed(error);
      return;
    }
    this.opened = true;
    if (!this.ended) this.follow();
  }

  /** Follows the run from the last line that is known; more than once is no more than once. */
  follow() {
    if (this.stream || !this.opened || this.closed || this.ended) return;
    this.stream = new LogStream(this.processId, { cursor: this.cursor });
    this.stream.addEventListener("records", ({ detail }) => this.#append(detail.records));
    this.stream.addEventListener("finished", ({ detail }) => this.#finish(detail));
    this.stream.addEventListener("state", ({ detail }) => this.#state(detail));
    this.stream.addEventListener("reset", () => this.#reset());
    this.stream.start();
    this.unwatch = this.watch(this.stream.manager);
  }

  /** Loads what of lines [first, last) is not there; resolves with whether anything came. */
  async ensure(first, last) {
    try {
      return await this.pages.ensure(first, last);
    } catch (error) {
      this.#failed(error);
      return false;
    }
  }

  /** The records of lines [first, last), from the server. */
  async read(first, last) {
    const records = [];
    while (first + records.length < last) {
      const answer = await this.#load(first + records.length, Math.min(5_000, last - first - records.length));
      if (!answer.records.length) break;
      records.push(...answer.records);
    }
    return records;
  }

  #load(first, count) {
    return api.get(`${this.url}/lines?first=${first}&count=${count}`);
  }

  #append(records) {
    const first = this.pages.total;
    this.pages.append(records);
    this.#emit("lines", { first, last: this.pages.total, fresh: true });
  }

  #reset() {
    this.pages.clear();
    this.#emit("reset");
  }

  #finish(detail) {
    this.finished = detail;
    this.ended = true;
    this.#emit("state");
  }

  #state({ state }) {
    this.line = state;
    if (state === "finished") this.ended = true;
    if (state === "live") this.error = "";
    if (state === "gone") this.error = "This log is no longer there, or you may no longer see it.";
    this.#emit("state");
  }

  #failed(error) {
    this.error = error.message;
    this.#emit("state");
    // The server may be restarting: the page of somebody who waits for it must not need a reload.
    if (error.unreachable && !this.closed) setTimeout(() => this.#retry(), 2_000);
  }

  async #retry() {
    if (this.closed) return;
    this.error = "";
    if (!this.opened) await this.open();
    this.#emit("lines", { first: 0, last: 0, fresh: false });
    this.#emit("state");
  }

  #emit(name, detail = null) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}
