// The board by keyboard: arrows go from card to card, Shift+arrows carry the card, digits send it to a column.

import { announce, find, findAll } from "../dom.js";
import { shortcut } from "../shortcuts.js";
import { cardElement } from "./cards.js";
import { STATUSES, STATUS_WORDS } from "./model.js";

const cardsOf = (status) => findAll(`.cards[data-status="${status}"] .card`);
const focusedCard = () => document.activeElement?.closest?.(".columns .card") ?? null;

export class Keyboard {
  constructor(board, selection) {
    this.board = board;
    this.selection = selection;
    this.active = null;
    this.tabbable = null;
    find("#columns").addEventListener("focusin", (event) => this.#activate(event.target.closest(".card")));
    const onCard = () => focusedCard() !== null;
    const onBoard = () => onCard() || document.activeElement === document.body || document.activeElement?.matches("main, .cards");
    shortcut(["ArrowUp", "k"], "The task above", "Board", () => this.#step(-1), { when: onBoard, shown: ["ArrowUp", "k"] });
    shortcut(["ArrowDown", "j"], "The task below", "Board", () => this.#step(1), { when: onBoard, shown: ["ArrowDown", "j"] });
    shortcut(["ArrowLeft", "h"], "The column to the left", "Board", () => this.#across(-1), { when: onBoard, shown: ["ArrowLeft", "h"] });
    shortcut(["ArrowRight", "l"], "The column to the right", "Board", () => this.#across(1), { when: onBoard, shown: ["ArrowRight", "l"] });
    shortcut(["Shift+ArrowUp"], "Move the task up", "Moving", () => this.#shift(-1), { when: onCard });
    shortcut(["Shift+ArrowDown"], "Move the task down", "Moving", () => this.#shift(1), { when: onCard });
    shortcut(["Shift+ArrowLeft"], "Move the task to the column on the left", "Moving", () => this.#sideways(-1), { when: onCard });
    shortcut(["Shift+ArrowRight"], "Move the task to the column on the right", "Moving", () => this.#sideways(1), { when: onCard });
    STATUSES.forEach((status, index) => {
      const run = () => this.#send(focusedCard().dataset.key, status);
      shortcut([String(index + 1)], `Move the task to ${STATUS_WORDS[status]}`, "Moving", run, { when: onCard });
    });
    this.roving();
  }

  /** One card at a time is in the order of Tab; the others are reached by arrows. Called after each drawing. */
  roving() {
    const active = (this.active && cardElement(this.active)) || find(".columns .card");
    if (active === this.tabbable) return;
    for (const [card, index] of [[this.tabbable, "-1"], [active, "0"]]) {
      for (const part of card ? findAll("a, button, input", card) : []) part.setAttribute("tabindex", index);
    }
    this.tabbable = active;
  }

  focus(id) {
    const card = cardElement(id);
    if (!card) return;
    find(".card-title", card).focus({ preventScroll: true });
    card.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  #activate(card) {
    if (!card || card.dataset.key === this.active) return;
    this.active = card.dataset.key;
    this.roving();
  }

  #step(by) {
    const card = focusedCard();
    if (!card) return this.#first();
    const cards = findAll(".card", card.parentElement);
    const next = cards[cards.indexOf(card) + by];
    if (next) this.focus(next.dataset.key);
    return true;
  }

  #first() {
    const card = (this.active && cardElement(this.active)) || find(".columns .card");
    if (!card) return false;
    this.focus(card.dataset.key);
    return true;
  }

  #across(by) {
    const card = focusedCard();
    if (!card) return this.#first();
    const place = findAll(".card", card.parentElement).indexOf(card);
    for (let index = STATUSES.indexOf(card.parentElement.dataset.status) + by; STATUSES[index]; index += by) {
      const cards = cardsOf(STATUSES[index]);
      if (!cards.length) continue;
      this.focus(cards[Math.min(place, cards.length - 1)].dataset.key);
      break;
    }
    return true;
  }

  #shift(by) {
    const id = focusedCard().dataset.key;
    const { status, title } = this.board.card(id);
    const all = this.board.columns.get(status);
    const shown = cardsOf(status).map((card) => card.dataset.key);
    const beyond = shown[shown.indexOf(id) + by];
    if (!beyond) return announce(by < 0 ? "It is the first one." : "It is the last one.");
    const others = all.filter((card) => card.id !== id);
    const place = others.findIndex((card) => card.id === beyond) + (by > 0 ? 1 : 0);
    return this.#move([id], status, place, `${title}: place ${place + 1} of ${all.length} in ${STATUS_WORDS[status]}.`);
  }

  #sideways(by) {
    const id = focusedCard().dataset.key;
    const next = STATUSES[STATUSES.indexOf(this.board.card(id).status) + by];
    if (!next) return announce("There is no column on that side.");
    return this.#send(id, next, 0);
  }

  /** To a column: its end, or `place`. */
  #send(id, status, place = null) {
    const ids = this.selection.with(id);
    const others = this.board.columns.get(status).filter((card) => !ids.includes(card.id));
    const words = ids.length > 1 ? `${ids.length} tasks` : this.board.card(id).title;
    const at = place ?? others.length;
    return this.#move(ids, status, at, `${words}: moved to ${STATUS_WORDS[status]}, place ${at + 1} of ${others.length + ids.length}.`);
  }

  async #move(ids, status, place, words) {
    const [id] = ids;
    const moved = this.board.move(ids, status, place);
    this.focus(id);
    announce(words);
    const failed = await moved;
    if (failed.length) announce("The move was not saved; the task is back where it was.");
  }
}
