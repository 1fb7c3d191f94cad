// What the streams of one thing (a log, a diff) have in common: a manager of their own, and what came gathered for a
// moment before it is handed on.

import { EventSourceManager } from "./event-source-manager.js";

/** A subclass has `take({type, data})`, which is called for every message, and `flush()`, asked for by `flushIn`. */
export class Stream extends EventTarget {
  #timer = 0;

  constructor(url, options) {
    super();
    /** The EventSourceManager, for a sign of the line. */
    this.manager = new EventSourceManager(url, options);
    this.manager.addEventListener("message", ({ detail }) => this.take(detail));
    this.manager.addEventListener("state", ({ detail }) => this.emit("state", detail));
  }

  get state() {
    return this.manager.state;
  }

  start() {
    this.manager.start();
    return this;
  }

  close() {
    clearTimeout(this.#timer);
    this.manager.close();
  }

  /** Has what is gathered handed on in so many milliseconds, if that was not asked for before. */
  flushIn(milliseconds) {
    this.#timer ||= setTimeout(() => this.flushNow(), milliseconds);
  }

  flushNow() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.flush();
  }

  emit(name, detail = null) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}
