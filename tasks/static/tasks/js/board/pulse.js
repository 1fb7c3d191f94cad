// What the records don't say: the last line of output of what runs, and how many lines an attempt changed.
// Asked for every few seconds while something runs, and once for attempts that wait for a person.

import { api } from "../api.js";

const BEAT = 2_500;
const SOON = 500;

export class Pulse extends EventTarget {
  #lines = new Map();
  #changes = new Map();
  #timer = null;
  #asking = false;

  constructor(board) {
    super();
    this.board = board;
    board.addEventListener("change", () => this.#plan());
    document.addEventListener("visibilitychange", () => this.#plan());
    this.#plan(0);
  }

  /** {line, additions, deletions} of a card, as far as it is known. */
  of(card) {
    const changes = this.#changes.get(card.attempt);
    return { line: this.#lines.get(card.run), additions: changes?.additions, deletions: changes?.deletions };
  }

  #wanted() {
    const cards = [...this.board.columns.values()].flat().filter((card) => card.attempt);
    const running = cards.filter((card) => card.state === "running");
    const waiting = cards.filter((card) => card.status === "inreview" && card.state !== "running" && this.#known(card) !== card.completedAt);
    return { running, waiting: waiting.slice(0, 40) };
  }

  /** The end of the run at which the counts of this card's attempt were taken. */
  #known(card) {
    return this.#changes.get(card.attempt)?.at;
  }

  #plan(delay = BEAT) {
    if (document.visibilityState !== "visible" || this.#asking) return;
    const { running, waiting } = this.#wanted();
    const silent = running.some((card) => !this.#lines.get(card.run));
    if (waiting.length || silent) delay = Math.min(delay, SOON);
    if (!running.length && !waiting.length) return;
    this.#timer ??= setTimeout(() => this.#ask(), delay);
  }

  async #ask() {
    const { running, waiting } = this.#wanted();
    const cards = [...running, ...waiting];
    this.#asking = true;
    try {
      if (cards.length) this.#take(cards, await api.post(`/projects/${this.board.project}/pulse/`, { attempts: cards.map((card) => card.attempt) }));
    } catch (error) {
      if (error.status === undefined) throw error; // not reached: the line's sign says so, and the next beat asks again
    } finally {
      this.#asking = false;
      this.#timer = null;
    }
    this.#plan();
  }

  #take(cards, { lines, changes }) {
    this.#lines = new Map(Object.entries(lines));
    for (const card of cards) {
      const counts = changes[card.attempt] ?? { additions: 0, deletions: 0 };
      this.#changes.set(card.attempt, { ...counts, at: card.state === "running" ? undefined : card.completedAt });
    }
    this.dispatchEvent(new Event("change"));
  }
}
