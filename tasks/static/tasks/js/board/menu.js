// The menu of a card: everything that keys and dragging do, for whoever has neither.

import { find, findAll, h, icon } from "../dom.js";
import { STATUSES, STATUS_WORDS } from "./model.js";
import { removeTasks } from "./selection.js";

export class CardMenu {
  constructor(board, { selection, editor, start, keyboard }) {
    Object.assign(this, { board, selection, editor, start, keyboard });
    this.menu = find("#card-menu");
    this.menu.addEventListener("keydown", (event) => this.#key(event));
    this.menu.addEventListener("toggle", (event) => event.newState === "closed" && this.#closed());
  }

  open(button) {
    const id = button.closest(".card").dataset.key;
    this.button = button;
    this.menu.replaceChildren(...this.#items(id));
    button.setAttribute("aria-expanded", "true");
    this.menu.showPopover();
    this.#stand(button.getBoundingClientRect());
    find(".menu-item", this.menu).focus();
  }

  #items(id) {
    const { status } = this.board.card(id);
    const moves = STATUSES.filter((one) => one !== status).map((one) => this.#item(h("span.status-ring", { dataset: { status: one } }), STATUS_WORDS[one], String(STATUSES.indexOf(one) + 1), () => this.#send(id, one)));
    return [
      h("a.menu-item", { role: "menuitem", href: `/tasks/${id}/` }, icon("external"), "Open", h("kbd", { "aria-hidden": "true" }, "↵")),
      this.#item(icon("edit"), "Edit", "e", () => this.editor.open(id)),
      this.#item(icon("play"), "Start an agent", "s", () => this.start.open([id])),
      this.#item(icon("select"), this.selection.has(id) ? "Leave out of the selection" : "Select", "x", () => this.selection.toggle(id)),
      h("div.menu-separator", { role: "separator" }),
      h("p.menu-title", { role: "presentation" }, "Move to"),
      ...moves,
      h("div.menu-separator", { role: "separator" }),
      this.#item(icon("trash"), "Delete", "Del", () => removeTasks(this.board, [id]), "is-danger"),
    ];
  }

  #item(picture, words, key, run, extra = "") {
    const choose = () => {
      this.menu.hidePopover();
      run();
    };
    return h(`button.menu-item${extra && `.${extra}`}`, { type: "button", role: "menuitem", onclick: choose }, picture, words, h("kbd", { "aria-hidden": "true" }, key));
  }

  #send(id, status) {
    this.board.move([id], status, this.board.columns.get(status).length);
  }

  /** Under the button, or above it where there is no room below. */
  #stand(box) {
    const { offsetWidth: width, offsetHeight: height } = this.menu;
    const top = box.bottom + 4 + height > innerHeight ? Math.max(8, Math.min(box.top - 4 - height, innerHeight - height - 8)) : box.bottom + 4;
    this.menu.style.top = `${top}px`;
    this.menu.style.left = `${Math.max(8, Math.min(box.right - width, innerWidth - width - 8))}px`;
  }

  #key(event) {
    const items = findAll(".menu-item", this.menu);
    const place = items.indexOf(document.activeElement);
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    items[(place + step + items.length) % items.length].focus();
    event.preventDefault();
  }

  #closed() {
    this.button?.setAttribute("aria-expanded", "false");
    if (!document.activeElement || document.activeElement === document.body) this.button?.focus();
  }
}
