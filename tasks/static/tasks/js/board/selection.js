// Which cards are selected, and what can be done with all of them at once.

import { confirm } from "../components.js";
import { announce, find, findAll, h, icon } from "../dom.js";
import { shortcut } from "../shortcuts.js";
import { STATUSES, STATUS_WORDS } from "./model.js";

export class Selection {
  #ids = new Set();
  #anchor = null;
  #marked = false;

  constructor(board, { startMany }) {
    this.board = board;
    this.startMany = startMany;
    this.bar = find("#bulk");
    shortcut(["x"], "Select or leave out the task", "Board", () => this.#toggleFocused());
    shortcut(["Mod+a"], "Select all tasks that are shown", "Board", () => this.set(shownIds()));
    shortcut(["Escape"], "", "Board", () => (this.size ? this.clear() : false));
  }

  get size() {
    return this.#ids.size;
  }

  has(id) {
    return this.#ids.has(id);
  }

  /** The selected ids in the order in which they are shown; or just `id` where it is not one of them. */
  with(id) {
    return this.has(id) ? this.inOrder() : [id];
  }

  inOrder() {
    return shownIds().filter((id) => this.#ids.has(id));
  }

  toggle(id) {
    if (!this.#ids.delete(id)) this.#ids.add(id);
    this.#anchor = id;
    this.draw();
  }

  /** All from the last toggled card to this one, where both are in one column. */
  extend(id) {
    const column = find(`.card[data-key="${CSS.escape(id)}"]`).closest(".cards");
    const ids = findAll(".card", column).map((card) => card.dataset.key);
    const [from, to] = [ids.indexOf(this.#anchor), ids.indexOf(id)].sort((a, b) => a - b);
    for (const one of from < 0 ? [id] : ids.slice(from, to + 1)) this.#ids.add(one);
    this.draw();
  }

  set(ids) {
    this.#ids = new Set(ids);
    this.draw();
  }

  clear() {
    this.set([]);
  }

  /** Marks the selected cards; those that are gone are forgotten. */
  draw() {
    for (const id of this.#ids) if (!this.board.task(id)) this.#ids.delete(id);
    for (const card of this.size || this.#marked ? findAll(".columns .card") : []) {
      const selected = this.#ids.has(card.dataset.key);
      card.classList.toggle("is-selected", selected);
      find(".card-check", card).checked = selected;
    }
    this.#marked = this.size > 0;
    document.body.classList.toggle("is-selecting", this.size > 0);
    this.#drawBar();
  }

  #toggleFocused() {
    const id = document.activeElement?.closest?.(".card")?.dataset.key;
    if (!id) return false;
    this.toggle(id);
    announce(this.has(id) ? `Selected. ${this.size} in all.` : `Not selected. ${this.size} in all.`);
    return true;
  }

  #drawBar() {
    const number = this.size ? this.inOrder().length : 0;
    const before = Number(this.bar.dataset.number ?? 0);
    this.bar.dataset.number = number;
    this.bar.hidden = number === 0;
    if (!number || before) {
      if (number) find(".bulk-count", this.bar).textContent = `${number} selected`;
      return;
    }
    this.bar.replaceChildren(
      h("span.bulk-count", { role: "status" }, `${number} selected`),
      this.#moveMenu(),
      this.#labelMenu(),
      this.board.executors.length > 0 && button("play", "Start", () => this.startMany(this.inOrder())),
      button("trash", "Delete", () => this.#remove(), "is-danger"),
      h("button.button.button-quiet.button-icon", { type: "button", "aria-label": "Select nothing", onclick: () => this.clear() }, icon("close")),
    );
  }

  #moveMenu() {
    const items = STATUSES.map((status) => h("button.menu-item", { type: "button", onclick: () => this.#move(status) }, h("span.status-ring", { dataset: { status } }), STATUS_WORDS[status]));
    return menu("arrow-right", "Move", items);
  }

  #labelMenu() {
    const input = h("input.input", { placeholder: "Label", "aria-label": "Label to add", list: "known-labels", maxlength: "50" });
    const form = h("form.row", {}, input, h("button.button.button-primary", {}, "Add"));
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const label = input.value.trim();
      if (!label) return;
      form.closest("details").open = false;
      input.value = "";
      await this.board.label(this.inOrder(), label);
    });
    return menu("label", "Label", [form]);
  }

  async #move(status) {
    const ids = this.inOrder();
    const place = this.board.columns.get(status).filter((card) => !ids.includes(card.id)).length;
    const failed = await this.board.move(ids, status, place);
    announce(`${ids.length - failed.length} moved to ${STATUS_WORDS[status]}.`);
  }

  async #remove() {
    await removeTasks(this.board, this.inOrder());
  }
}

/** Asks, then deletes. */
export async function removeTasks(board, ids) {
  const what = ids.length === 1 ? `“${board.task(ids[0])?.title ?? "this task"}”` : `${ids.length} tasks`;
  const text = "Attempts and their logs go too. Branches stay, and uncommitted work in worktrees is kept under a git ref.";
  if (await confirm(`Delete ${what}?`, { text, yes: "Delete", danger: true })) {
    const failed = await board.remove(ids);
    announce(`${ids.length - failed.length} deleted.`);
  }
}

const shownIds = () => findAll(".columns .card").map((card) => card.dataset.key);

function button(picture, words, run, extra = "") {
  return h(`button.button.button-quiet${extra && `.${extra}`}`, { type: "button", onclick: run }, icon(picture), words);
}

function menu(picture, words, items) {
  return h("details.menu", {}, h("summary.button.button-quiet", {}, icon(picture), words), h("div.menu-list.is-left.is-up", {}, items));
}
