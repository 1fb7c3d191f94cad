// Draws the columns and cards: changes what differs in the elements that are there, so that nothing flickers.

import { find, findAll, h, hue, keyed, reconcile, setClass, setData, setText } from "../dom.js";
import { elapsed } from "../time.js";
import { STATE_WORDS } from "./model.js";

const template = find("#card-template");

export const cardElement = (id) => find(`.card[data-key="${CSS.escape(id)}"]:not(.card-ghost)`);

/** Draws the whole board. `shown` says which cards the filter lets through; `extra` has what the pulse brought. */
export function drawBoard(board, { shown, extra, carried }) {
  let total = 0;
  const pool = keyed(...findAll(".cards"));
  for (const [status, cards] of board.columns) {
    const list = find(`.cards[data-status="${status}"]`);
    const visible = cards.filter((card) => shown(card) || card.id === carried);
    total += cards.length;
    reconcile(list, visible, { keyOf: (card) => card.id, make: makeCard, update: (element, card, isNew) => update(element, card, isNew, board, extra), pool });
    drawCounts(status, cards.length, visible.length);
    drawEmpty(list, cards.length, visible.length);
  }
  for (const gone of pool.values()) takeAway(gone);
  drawFirst(total);
}

/** Who stood on the card stands on its neighbour then, not at the top of the page. */
function takeAway(card) {
  const list = card.parentElement;
  const stoodOn = card.contains(document.activeElement);
  const beside = [card.nextElementSibling, card.previousElementSibling].find((other) => other?.matches(".card"));
  card.remove();
  if (stoodOn) (beside ? find(".card-title", beside) : list).focus();
}

function makeCard() {
  return template.content.firstElementChild.cloneNode(true);
}

// What each element shows, so that a board of hundreds redraws only the cards that changed.
const drawn = new WeakMap();

function update(element, card, isNew, board, extra) {
  const more = extra(card);
  const state = JSON.stringify([card, more]);
  if (drawn.get(element) !== state) {
    drawn.set(element, state);
    fillCard(element, card, more);
  }
  setClass(element, "is-pending", board.isMoving(card.id));
  if (isNew && board.drawn) element.classList.add("is-new");
}

/** Fills one card. `extra`: {line, additions, deletions}, each undefined where it is not known. */
function fillCard(element, card, extra = {}) {
  setData(element, "state", card.state);
  element.toggleAttribute("data-done", card.status === "done" || card.status === "cancelled");
  fillTitle(element, card);
  fillLabels(find(".card-labels", element), card.labels);
  const line = find(".card-line", element);
  line.hidden = !(card.state === "running" && extra.line);
  setText(line, line.hidden ? "" : extra.line);
  find(".card-foot", element).hidden = !card.agent;
  const state = find(".run-state", element);
  state.hidden = !card.state;
  setData(state, "state", card.state);
  setText(state, STATE_WORDS[card.state] ?? "");
  setText(find(".card-agent span", element), card.agent);
  fillChanges(find(".card-changes", element), extra);
  fillElapsed(find(".card-elapsed", element), card);
}

function fillTitle(element, card) {
  const link = find(".card-title", element);
  if (link.textContent === card.title && link.getAttribute("href")) return;
  setText(link, card.title);
  link.href = `/tasks/${card.id}/`;
  find(".card-check", element).setAttribute("aria-label", `Select ${card.title}`);
  find(".card-tool", element).setAttribute("aria-label", `Actions for ${card.title}`);
}

function fillLabels(list, labels) {
  const current = findAll(".label-chip", list).map((chip) => chip.textContent);
  if (current.length === labels.length && current.every((label, place) => label === labels[place])) return;
  list.replaceChildren(...labels.map((label) => h("span.label-chip", { dataset: { hue: hue(label) } }, h("span", {}, label))));
}

function fillChanges(element, { additions, deletions }) {
  element.hidden = !(additions || deletions);
  if (element.hidden) return;
  setText(find(".plus", element), additions ? `+${additions}` : "");
  setText(find(".minus", element), deletions ? `−${deletions}` : "");
  element.setAttribute("title", `${additions} lines added, ${deletions} removed`);
}

/** A running time ticks (see tick); a run that has ended shows how long it took. */
function fillElapsed(element, card) {
  const running = card.state === "running" && card.startedAt;
  if (running) element.dataset.since = card.startedAt;
  else delete element.dataset.since;
  const ended = card.startedAt && card.completedAt && card.state !== "queued";
  setText(element, running ? elapsed(card.startedAt) : ended ? elapsed(card.startedAt, card.completedAt) : "");
}

/** Moves the running times on; called once a second while the page is visible. */
export function tick() {
  for (const element of findAll(".card-elapsed[data-since]")) setText(element, elapsed(element.dataset.since));
}

function drawCounts(status, number, visible) {
  const words = visible === number ? String(number) : `${visible} of ${number}`;
  const column = find(`#column-${status}`);
  setData(column, "count", number);
  if (status === "cancelled") setData(column.parentElement, "cancelled", number);
  setText(find(".count", column), words);
  setText(find(`#tab-${status} .count`), words);
}

function drawEmpty(list, number, visible) {
  const note = find(".column-empty", list);
  const words = visible ? "" : number ? "No task here matches the filter." : "No tasks";
  if (!words || (note && !find(".first-task", note) && note.textContent === words)) {
    if (!words) note?.remove();
    return;
  }
  note?.remove();
  list.append(h("li.column-empty", {}, words));
}

/** On an empty board the first column says what to do first. */
function drawFirst(total) {
  if (total) return;
  const note = find('.cards[data-status="todo"] .column-empty');
  if (note && !find(".first-task", note)) note.replaceChildren(find("#first-task").content.cloneNode(true));
}
