// The lines of one run: ranges of the past from REST, what follows from the stream, numbered without a gap.

import { LogStream } from "../../events/log-stream.js";
import { api } from "./api.js";
import { LinePages, PAGE } from "./line-pages.js";

/** More lines than this in a second are not read one by one: nobody can, and a page takes in fewer than are printed. */
const FLOOD = 2_000;
/** Instead the end is looked at this often, in milliseconds. */
const LOOK = 250;

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
    this.second = { began: 0, lines: 0 };
    this.closed = false;
    this.skipping = false;
  }

  get total() {
    return this.pages.total;
  }

  get(index) {
    return this.pages.get(index);
  }

  close() {
    this.closed = true;
    this.#leave();
  }

  /** Loads the last lines, which the page has asked for ahead (views/task.py), and follows what comes after them. */
  async open() {
    try {
      const answer = await this.#load(-PAGE, PAGE);
      if (this.closed) return;
      this.#take(answer);
      this.#emit("lines", { first: answer.first, last: this.total, fresh: false });
    } catch (error) {
      this.#failed(error);
      return;
    }
    this.opened = true;
    if (!this.ended) this.follow();
  }

  /** Follows the run from the last line that is known; more than once is no more than once. */
  follow() {
    if (this.stream || this.skipping || !this.opened || this.closed || this.ended) return;
    const stream = new LogStream(this.processId, { cursor: this.cursor });
    stream.addEventListener("records", ({ detail }) => this.#append(detail.records));
    stream.addEventListener("finished", ({ detail }) => this.#finish(detail));
    stream.addEventListener("state", ({ detail }) => stream === this.stream && this.#state(detail));
    stream.addEventListener("reset", () => this.#reset());
    this.stream = stream.start();
    this.unwatch = this.watch(stream.manager);
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
    this.#emit("lines", { first, last: this.total, fresh: true });
    if (this.#floods(records.length)) this.#skip();
  }

  #floods(lines) {
    const now = performance.now();
    if (now - this.second.began > 1_000) this.second = { began: now, lines: 0 };
    this.second.lines += lines;
    return this.second.lines > FLOOD;
  }

  /** Looks at the end until the flood is over, and follows from there. What is between is loaded where it is wanted. */
  async #skip() {
    this.cursor = this.stream.manager.cursor;
    this.#leave();
    this.skipping = true;
    try {
      for (let grown = Infinity; grown > (FLOOD * LOOK) / 1_000 && !this.closed; await pause(LOOK)) grown = await this.#look();
    } catch (error) {
      if (!error.unreachable) this.#failed(error);
    }
    this.skipping = false;
    this.follow();
  }

  /** Takes in the last lines; how many have come since the last that is known. */
  async #look() {
    const answer = await this.#load(-PAGE, PAGE);
    if (answer.total < this.total) this.#reset();
    const first = this.total;
    this.#take(answer);
    if (!this.closed) this.#emit("lines", { first, last: this.total, fresh: true });
    return this.total - first;
  }

  #take({ first, records, cursor }) {
    this.pages.put(first, records);
    this.cursor = cursor;
  }

  #leave() {
    const { stream } = this;
    this.stream = null;
    this.unwatch?.();
    stream?.close();
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

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
