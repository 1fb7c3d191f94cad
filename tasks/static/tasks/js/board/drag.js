// Carrying cards with the pointer: a mouse at once, a finger after a long press, so that scrolling stays free.

import { announce, find, findAll, glide, h } from "../dom.js";
import { STATUS_WORDS } from "./model.js";

const THRESHOLD = 5;
const LONG_PRESS = 240;
const EDGE = 56;
const SPEED = 16;

export class Drag {
  #press = null;
  #carry = null;
  // The last press became a drag, so that its click is none.
  #spent = false;

  constructor(board, selection, { redraw }) {
    this.board = board;
    this.selection = selection;
    this.redraw = redraw;
    const columns = find("#columns");
    columns.addEventListener("pointerdown", (event) => this.#down(event));
    columns.addEventListener("dragstart", (event) => event.preventDefault());
    // Only a listener that is not passive can keep a browser from scrolling under a carried card.
    columns.addEventListener("touchmove", (event) => this.#carry && event.preventDefault(), { passive: false });
    columns.addEventListener("contextmenu", (event) => this.#press?.touch && event.preventDefault());
    document.addEventListener("pointermove", (event) => this.#move(event));
    document.addEventListener("pointerup", () => this.#up());
    document.addEventListener("pointercancel", () => this.#cancel());
    document.addEventListener("keydown", (event) => event.key === "Escape" && this.#carry && (this.#cancel(), event.preventDefault()), true);
    document.addEventListener("pointerdown", () => (this.#spent = false), true);
    document.addEventListener("click", (event) => this.#swallow(event), true);
  }

  /** The id of the card in hand, which is drawn whatever the filter says. */
  get carried() {
    return this.#carry?.id ?? null;
  }

  /** Puts the placeholder back where it is held, after the board was drawn anew under it. */
  restore() {
    if (!this.#carry) return;
    const card = find(`.columns .card[data-key="${CSS.escape(this.#carry.id)}"]`);
    if (!card) return this.#cancel();
    this.#carry.card = card;
    card.classList.add("is-carried");
    this.#place();
  }

  #down(event) {
    const card = event.target.closest(".card");
    if (!card || event.button !== 0 || !event.isPrimary || event.target.closest(".card-tools") || event.shiftKey || event.ctrlKey || event.metaKey) return;
    const touch = event.pointerType === "touch";
    this.#press = { card, touch, x: event.clientX, y: event.clientY, timer: null };
    if (touch) this.#press.timer = setTimeout(() => this.#start(), LONG_PRESS);
  }

  #move(event) {
    if (this.#carry) {
      this.#carry.x = event.clientX;
      this.#carry.y = event.clientY;
      this.#follow();
      return;
    }
    const press = this.#press;
    if (!press || Math.hypot(event.clientX - press.x, event.clientY - press.y) < THRESHOLD) return;
    if (press.touch) this.#forget();
    else this.#start();
  }

  #forget() {
    clearTimeout(this.#press?.timer);
    this.#press = null;
  }

  #start() {
    this.#spent = true;
    const { card, x, y } = this.#press;
    const id = card.dataset.key;
    const ids = this.selection.with(id);
    const box = card.getBoundingClientRect();
    const ghost = card.cloneNode(true);
    ghost.classList.add("card-ghost");
    ghost.setAttribute("aria-hidden", "true");
    ghost.removeAttribute("data-key");
    ghost.style.width = `${box.width}px`;
    if (ids.length > 1) ghost.append(h("span.card-ghost-count", {}, ids.length));
    this.#carry = { id, ids, card, ghost, x, y, dx: x - box.left, dy: y - box.top, frame: 0 };
    document.body.append(ghost);
    document.body.classList.add("is-dragging");
    card.classList.add("is-carried");
    navigator.vibrate?.(12);
    getSelection()?.removeAllRanges();
    this.#follow();
    this.#scroll();
  }

  #follow() {
    const { ghost, x, y, dx, dy } = this.#carry;
    ghost.style.transform = `translate(${x - dx}px, ${y - dy}px)`;
    this.#place();
  }

  /** Moves the dashed place to where the card would fall. */
  #place() {
    const { card, x, y } = this.#carry;
    const column = columnAt(x);
    for (const other of findAll(".column.is-target")) if (other !== column) other.classList.remove("is-target");
    column.classList.add("is-target");
    const list = find(".cards", column);
    const next = findAll(".card", list).find((one) => one !== card && middle(one) > y) ?? null;
    if (card.parentElement === list && nextCard(card) === next) return;
    list.insertBefore(card, next ?? find(".column-empty", list));
  }

  /** Near an edge the column, and on a narrow screen the board, scrolls on its own. */
  #scroll() {
    if (!this.#carry) return;
    const { x, y } = this.#carry;
    const columns = find("#columns");
    const list = find(".cards", columnAt(x));
    const box = list.getBoundingClientRect();
    list.scrollTop += push(y, box.top, box.bottom) * SPEED;
    const side = push(x, 0, innerWidth, Math.min(EDGE, innerWidth / 10));
    if (side && matchMedia("(max-width: 640px)").matches) this.#turnPage(columns, side);
    else columns.scrollLeft += side * SPEED;
    if (list.scrollHeight > list.clientHeight) this.#place();
    this.#carry.frame = requestAnimationFrame(() => this.#scroll());
  }

  #turnPage(columns, side) {
    const now = Date.now();
    if (now - (this.#carry.turned ?? 0) < 650) return;
    this.#carry.turned = now;
    columns.scrollBy({ left: Math.sign(side) * columns.clientWidth, behavior: glide() });
  }

  #up() {
    this.#forget();
    if (!this.#carry) return;
    const { card, ids } = this.#carry;
    const list = card.parentElement;
    const status = list.dataset.status;
    const place = placeBefore(this.board, status, ids, nextCard(card)?.dataset.key);
    this.#drop();
    this.board.move(ids, status, place).then((failed) => {
      if (!failed.length) announce(`Moved to ${STATUS_WORDS[status]}, place ${place + 1}.`);
    });
  }

  #cancel() {
    this.#forget();
    if (!this.#carry) return;
    this.#drop();
    this.redraw();
  }

  #drop() {
    const { card, ghost, frame } = this.#carry;
    cancelAnimationFrame(frame);
    ghost.remove();
    card.classList.remove("is-carried");
    document.body.classList.remove("is-dragging");
    for (const column of findAll(".column.is-target")) column.classList.remove("is-target");
    this.#carry = null;
  }

  /** The click that ends a drag must not open the card, however late a busy page comes to it. Keys click with detail 0. */
  #swallow(event) {
    if (!this.#spent || event.detail === 0) return;
    this.#spent = false;
    event.preventDefault();
    event.stopPropagation();
  }
}

/** The place, among the column's other cards (hidden ones too), in front of the card `before`; the end without one. */
function placeBefore(board, status, ids, before) {
  const others = board.columns.get(status).filter((card) => !ids.includes(card.id));
  const place = others.findIndex((card) => card.id === before);
  return place < 0 ? others.length : place;
}

function columnAt(x) {
  const columns = findAll(".column");
  return columns.find((column) => x <= column.getBoundingClientRect().right + 6) ?? columns.at(-1);
}

function middle(element) {
  const box = element.getBoundingClientRect();
  return box.top + box.height / 2;
}

function nextCard(card) {
  let next = card.nextElementSibling;
  while (next && !next.classList.contains("card")) next = next.nextElementSibling;
  return next;
}

/** -1 to 1: how far `at` is into the zone along either edge. */
function push(at, from, to, zone = EDGE) {
  if (at < from + zone) return -Math.min(1, (from + zone - at) / zone);
  if (at > to - zone) return Math.min(1, (at - to + zone) / zone);
  return 0;
}
