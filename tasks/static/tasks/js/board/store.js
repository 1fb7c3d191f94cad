// The state of the page: the live document, moves under way, the filter's verdict, and the orders to the server.

import { api } from "../api.js";
import { toast } from "../toast.js";
import { columns, positionAt } from "./model.js";

export class Board extends EventTarget {
  #moves = new Map();
  #saving = new Map();
  #undo = [];

  constructor(live, data) {
    super();
    this.live = live;
    this.project = data.project;
    this.executors = data.executors;
    this.columns = columns(live.document);
    live.addEventListener("change", () => this.#changed());
  }

  /** The card with this id, or undefined. */
  card(id) {
    for (const cards of this.columns.values()) {
      const found = cards.find((card) => card.id === id);
      if (found) return found;
    }
    return undefined;
  }

  task(id) {
    return this.live.table("tasks")[id];
  }

  isMoving(id) {
    return this.#moves.has(id);
  }

  /** Computes the columns anew and tells the page. */
  refresh() {
    this.columns = columns(this.live.document, this.#moves);
    this.dispatchEvent(new CustomEvent("change"));
  }

  #changed() {
    for (const [id, move] of this.#moves) if (move.savedAt && this.#arrived(id, move)) this.#moves.delete(id);
    this.refresh();
  }

  #arrived(id, move) {
    const task = this.task(id);
    return !task || task.updated_at >= move.savedAt;
  }

  /**
   * Moves cards, in this order, to `place` among the others of the column; seen at once, saved one by one.
   * Returns the ids that could not be moved, which go back to where they were; the page says why.
   */
  async move(asked, status, place) {
    const ids = asked.filter((id) => this.card(id));
    const before = ids.map((id) => this.card(id)).map(({ id, status: from, position }) => ({ id, status: from, position }));
    const others = this.columns.get(status).filter((card) => !ids.includes(card.id));
    const spread = [...others];
    const orders = ids.map((id, index) => {
      const position = positionAt(spread, place + index);
      spread.splice(place + index, 0, { id, position });
      return { id, position };
    });
    this.#undo = before;
    return this.#moveTo(orders.map((order) => ({ ...order, status })));
  }

  /** Puts the cards of the last move back where they were; how many. */
  async undo() {
    const moves = this.#undo.filter(({ id }) => this.task(id));
    this.#undo = [];
    const failed = await this.#moveTo(moves);
    return moves.length - failed.length;
  }

  #moveTo(orders) {
    const moves = orders.map(({ id, status, position }) => ({ id, status, position, savedAt: null }));
    for (const move of moves) this.#moves.set(move.id, move);
    this.refresh();
    return this.#each(moves, (move) => this.#saveMove(move), "Not moved");
  }

  /** Moves of one card are saved one after the other; of those that wait only the last counts. */
  async #saveMove(move) {
    const { id } = move;
    const before = this.#saving.get(id);
    const saving = (async () => {
      await before?.catch(() => null);
      if (this.#moves.get(id) === move) await this.#sendMove(move);
    })();
    this.#saving.set(id, saving);
    try {
      await saving;
    } finally {
      if (this.#saving.get(id) === saving) this.#saving.delete(id);
    }
  }

  async #sendMove(move) {
    const { id, status, position } = move;
    try {
      const saved = await api.patch(`/api/tasks/${id}`, { status, position });
      if (this.#moves.get(id) === move) this.#settle(id, move, saved.updated_at);
    } catch (error) {
      if (this.#moves.get(id) === move) this.#moves.delete(id);
      this.refresh();
      throw error;
    }
  }

  /** The move is shown until the stream has brought it, or for a while where the line is lost. */
  #settle(id, move, savedAt) {
    move.savedAt = savedAt;
    if (this.#arrived(id, move)) this.#moves.delete(id);
    else setTimeout(() => this.#moves.get(id) === move && this.#moves.delete(id) && this.refresh(), 10_000);
    this.refresh();
  }

  create(fields) {
    return api.post("/api/tasks", { project_id: this.project, ...fields });
  }

  start(id, executor, prompt = "") {
    return api.post("/api/task-attempts", { task_id: id, executor, ...(prompt.trim() ? { prompt } : {}) });
  }

  change(id, fields, expected) {
    return api.patch(`/api/tasks/${id}`, { ...fields, ...(expected ? { expected } : {}) });
  }

  /** Deletes the tasks; returns the ids that could not be. */
  remove(ids) {
    return this.#each(ids, (id) => api.delete(`/api/tasks/${id}`), "Not deleted");
  }

  startAll(ids, executor) {
    return this.#each(ids, (id) => this.start(id, executor), "Not started");
  }

  label(ids, label) {
    const add = (id) => {
      const { labels } = this.task(id) ?? {};
      return !labels || labels.includes(label) ? null : this.change(id, { labels: [...labels, label] }, { labels });
    };
    return this.#each(ids, add, "Not labelled");
  }

  /** One after the other, so that the cards keep their order; failures are said once, with the first reason. */
  async #each(items, run, failure) {
    const failed = [];
    let reason = null;
    for (const item of items) {
      try {
        await run(item);
      } catch (error) {
        if (error.status === undefined) throw error;
        if (!(error.status === 404 && failure === "Not deleted")) failed.push(item.id ?? item);
        reason ??= error.message;
      }
    }
    if (failed.length) toast(`${failure}${items.length > 1 ? ` (${failed.length} of ${items.length})` : ""}: ${reason}`, { error: true });
    return failed;
  }
}
