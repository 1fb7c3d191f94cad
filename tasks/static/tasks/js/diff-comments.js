// Comments on lines of a diff, kept in this browser until they are sent to the agent. Pure but for the storage,
// which is read again before each change: another window may have written to it.

import { storage } from "./storage.js";

/** A comment: {id, file, side: "old"|"new", line, code, text}. */
export class Comments extends EventTarget {
  constructor(attemptId) {
    super();
    this.key = `vibe.comments.${attemptId}`;
    this.all = this.#read();
  }

  get size() {
    return this.all.length;
  }

  of(file) {
    return this.all.filter((comment) => comment.file === file);
  }

  put(comment) {
    const id = comment.id ?? `${Date.now().toString(36)}${Math.random().toString(36).slice(2, 8)}`;
    this.all = [...this.#read().filter((other) => other.id !== id), { ...comment, id }].sort(byPlace);
    this.#changed(comment.file);
  }

  remove({ id, file }) {
    this.all = this.#read().filter((comment) => comment.id !== id);
    this.#changed(file);
  }

  /** Takes away those that were sent, but for what was changed since. */
  clear(sent) {
    const files = new Set(sent.map((comment) => comment.file));
    const wasSent = ({ id, text }) => sent.some((comment) => comment.id === id && comment.text === text);
    this.all = this.#read().filter((comment) => !wasSent(comment));
    for (const file of files) this.#changed(file);
  }

  #read() {
    try {
      const stored = JSON.parse(storage.getItem(this.key) ?? "[]");
      return Array.isArray(stored) ? stored : [];
    } catch {
      return [];
    }
  }

  #changed(file) {
    if (this.all.length) storage.setItem(this.key, JSON.stringify(this.all));
    else storage.removeItem(this.key);
    this.dispatchEvent(new CustomEvent("change", { detail: { file } }));
  }
}

const byPlace = (a, b) => (a.file === b.file ? a.line - b.line : a.file < b.file ? -1 : 1);

/**
 * Where a comment belongs now: the line with the same code nearest to where it was, or null when that is gone.
 * @param {object[]} lines of all hunks
 */
export function place(comment, lines) {
  const number = (line) => line[comment.side];
  const same = lines.filter((line) => number(line) !== null && line.text === comment.code);
  const distance = (line) => Math.abs(number(line) - comment.line);
  return same.reduce((best, line) => (best === null || distance(line) < distance(best) ? line : best), null);
}
