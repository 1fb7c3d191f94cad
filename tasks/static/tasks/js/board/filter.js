// Search and filters. They live in the page's address, so that a reload and a link keep them.

import { find, h, icon } from "../dom.js";
import { shortcut } from "../shortcuts.js";
import { STATE_WORDS } from "./model.js";

/** As people sort: "week 2" before "week 10", capitals among the others. */
const BY_NAME = new Intl.Collator(undefined, { numeric: true }).compare;
const KINDS = { label: "Label", agent: "Agent", state: "State" };

export class Filter extends EventTarget {
  #words = [];
  #chosen = new Map(Object.keys(KINDS).map((kind) => [kind, new Set()]));

  constructor(board) {
    super();
    this.board = board;
    this.input = find("#search");
    this.#read();
    this.input.addEventListener("input", () => this.#typed());
    this.input.addEventListener("keydown", (event) => this.#key(event));
    find("#filter-menu").addEventListener("toggle", (event) => event.target.open && this.#drawMenu());
    shortcut(["/"], "Search tasks", "Board", () => (this.input.focus(), this.input.select()));
    shortcut(["f"], "Filter by label, agent or state", "Board", () => this.#openMenu());
    this.#drawChips();
  }

  get active() {
    return this.#words.length > 0 || [...this.#chosen.values()].some((values) => values.size);
  }

  /** Whether the card passes: every word, and one of the chosen values of each kind. */
  passes(card) {
    if (!this.active) return true;
    const text = `${card.title}\n${card.description}\n${card.labels.join("\n")}\n${card.agent}`.toLowerCase();
    return this.#words.every((word) => text.includes(word)) && [...this.#chosen].every(([kind, values]) => !values.size || valuesOf(card, kind).some((value) => values.has(value)));
  }

  clear() {
    this.input.value = "";
    for (const values of this.#chosen.values()) values.clear();
    this.#typed();
  }

  /** Says how many cards are left; called after each drawing. */
  drawMatches() {
    const list = find("#filter-chips");
    find(".filter-matches", list)?.remove();
    if (!this.active) return;
    const all = [...this.board.columns.values()].flat();
    list.append(h("span.filter-matches", {}, `${all.filter((card) => this.passes(card)).length} of ${all.length}`));
  }

  #read() {
    const query = new URLSearchParams(location.search);
    this.input.value = query.get("q") ?? "";
    for (const [kind, values] of this.#chosen) for (const value of query.getAll(kind)) values.add(value);
    this.#words = words(this.input.value);
  }

  #typed() {
    this.#words = words(this.input.value);
    this.#changed();
  }

  #key(event) {
    if (event.key !== "Escape") return;
    if (this.input.value) this.clear();
    else this.input.blur();
    event.preventDefault();
  }

  #openMenu() {
    find("#filter-menu").open = true;
    find("#filter-menu summary").focus();
  }

  #changed() {
    const query = new URLSearchParams();
    if (this.input.value.trim()) query.set("q", this.input.value.trim());
    for (const [kind, values] of this.#chosen) for (const value of values) query.append(kind, value);
    history.replaceState(null, "", `${location.pathname}${query.size ? `?${query}` : ""}`);
    this.#drawChips();
    this.dispatchEvent(new Event("change"));
  }

  #toggle(kind, value) {
    const values = this.#chosen.get(kind);
    if (!values.delete(value)) values.add(value);
    this.#changed();
  }

  #drawChips() {
    const chips = [...this.#chosen].flatMap(([kind, values]) => [...values].map((value) => this.#chip(kind, value)));
    find("#filter-chips").replaceChildren(...chips);
  }

  #chip(kind, value) {
    const name = shownValue(kind, value);
    const attributes = { type: "button", "aria-label": `Remove the filter ${KINDS[kind]} ${name}`, onclick: () => this.#toggle(kind, value) };
    return h("button.filter-chip", attributes, name, icon("close"));
  }

  #drawMenu() {
    const all = [...this.board.columns.values()].flat();
    const sections = Object.entries(KINDS).map(([kind, title]) => {
      const values = [...new Set([...all.flatMap((card) => valuesOf(card, kind)), ...this.#chosen.get(kind)])].sort(BY_NAME);
      return values.length ? [h("p.menu-title", {}, title), ...values.map((value) => this.#item(kind, value, all))] : [];
    });
    const items = sections.flat();
    find("#filter-list").replaceChildren(...(items.length ? items : [h("p.menu-title", {}, "Nothing to filter by yet: no labels, no agents.")]));
  }

  #item(kind, value, all) {
    const number = all.filter((card) => valuesOf(card, kind).includes(value)).length;
    const button = h("button.menu-item", { type: "button", "aria-pressed": String(this.#chosen.get(kind).has(value)) }, h("span.grow.truncate", {}, shownValue(kind, value)), h("span.count", {}, number));
    button.addEventListener("click", () => {
      this.#toggle(kind, value);
      button.setAttribute("aria-pressed", String(this.#chosen.get(kind).has(value)));
    });
    return button;
  }
}

const words = (text) => text.toLowerCase().split(/\s+/).filter(Boolean);
const shownValue = (kind, value) => (kind === "state" ? STATE_WORDS[value] : value);

function valuesOf(card, kind) {
  if (kind === "label") return card.labels;
  if (kind === "agent") return card.agent ? [card.agent] : [];
  return card.state ? [card.state] : [];
}

