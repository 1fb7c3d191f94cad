/**
 * A scrolling list of very many lines of which only those in sight are in the document.
 *
 * The place of the reader is `position`, a line number with a fraction, not a number of pixels: lines may wrap
 * to any height without anybody having measured those above. A scroller's height in pixels is limited
 * (about 17 million in Firefox), so in a longer list one line is less scroll bar than its height, and the
 * wheel, whose steps would then skip lines, moves `position` itself.
 *
 * The list follows its end while the reader is at the end and selects nothing, and only then.
 */

import { holdsSelection } from "./dom.js";

const TALLEST = 12_000_000;
const OVERSCAN = 10;
const MOST_ROWS = 1_000;
/** Further than this nobody looks for lines to fill the list with, where those between are hidden. */
const FURTHEST = 5_000;

export class LineWindow {
  /**
   * @param {HTMLElement} scroller gets the list as its content
   * @param {object} options
   * @param {(index: number) => HTMLElement} options.render makes the row of a line
   * @param {(index: number) => boolean} [options.hides] whether a line has no row: there may be any number of such
   * @param {(first: number, last: number) => void} [options.onRange] lines [first, last) are in sight
   * @param {(following: boolean) => void} [options.onFollow] the reader came to the end, or left it
   */
  constructor(scroller, { render, hides = () => false, onRange = () => {}, onFollow = () => {} }) {
    Object.assign(this, { scroller, render, hides, onRange, onFollow });
    this.total = 0;
    this.position = 0;
    this.following = true;
    this.rows = new Map();
    this.space = document.createElement("div");
    this.layer = document.createElement("div");
    this.list = document.createElement("div");
    this.space.className = "lines-space";
    this.layer.className = "lines-layer";
    this.list.className = "lines";
    this.layer.append(this.list);
    this.space.append(this.layer);
    scroller.replaceChildren(this.space);
    this.rowHeight = 20;
    this.fit = 1;
    this.height = 0;
    this.frame = 0;
    this.top = 0;
    this.abort = new AbortController();
    const { signal } = this.abort;
    scroller.addEventListener("scroll", () => this.#scrolled(), { signal, passive: true });
    scroller.addEventListener("wheel", (event) => this.#wheel(event), { signal, passive: false });
    scroller.addEventListener("keydown", (event) => this.#key(event), { signal });
    this.resize = new ResizeObserver(() => this.remeasure());
    this.resize.observe(scroller);
  }

  destroy() {
    this.abort.abort();
    this.resize.disconnect();
    cancelAnimationFrame(this.frame);
  }

  setTotal(total) {
    if (total === this.total) return;
    if (total < this.total) this.clear();
    if (holdsSelection(this.list)) this.#follow(false); // or the rows that are selected would go
    this.total = total;
    this.schedule();
  }

  /** Forgets the rows, so that each is made again. */
  clear() {
    this.rows.clear();
    this.list.replaceChildren();
    this.schedule();
  }

  /** Makes the rows of lines [first, last) again, where they are in sight. */
  refresh(first, last) {
    for (const [index, row] of this.rows) {
      if (index < first || index >= last || this.hides(index)) continue; // the next drawing takes out what is hidden
      const fresh = this.render(index);
      row.replaceWith(fresh);
      this.rows.set(index, fresh);
    }
    this.schedule();
  }

  /** Line heights may have changed: another width, another font, wrapping on or off. */
  remeasure() {
    const probe = document.createElement("div");
    probe.className = "log-line log-probe";
    probe.textContent = "M";
    this.list.append(probe);
    this.rowHeight = probe.getBoundingClientRect().height || 20;
    probe.remove();
    this.fit = Math.max(1, this.scroller.clientHeight / this.rowHeight);
    this.schedule();
  }

  toEnd() {
    if (holdsSelection(this.list)) getSelection().empty();
    this.#follow(true);
    this.schedule();
  }

  /** Puts a line into sight, a third of the way down. */
  toLine(index) {
    this.#follow(false);
    this.position = this.#clamp(index - this.fit / 3);
    this.schedule();
  }

  schedule() {
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      this.#draw();
    });
  }

  /** How many pixels of scroll bar one line is. */
  get unit() {
    return Math.min(this.rowHeight, TALLEST / Math.max(1, this.total));
  }

  get #end() {
    return Math.max(0, this.total - this.fit);
  }

  #clamp(position) {
    return Math.min(Math.max(0, position), this.#end);
  }

  #follow(following) {
    if (following === this.following) return;
    this.following = following;
    this.onFollow(following);
  }

  #scrolled() {
    const { scrollTop, clientHeight } = this.scroller;
    if (Math.abs(scrollTop - this.top) < 1) return;
    // The list grew taller and the browser moved it, not the reader: the next drawing puts it right.
    if (clientHeight !== this.height) {
      this.remeasure();
      return;
    }
    // Who is at the end leaves it by going up only; lines that have come since it was drawn are no distance.
    if (this.following && scrollTop > this.top) {
      this.schedule();
      return;
    }
    this.top = scrollTop;
    this.#moveTo(scrollTop / this.unit);
  }

  #moveTo(position) {
    this.position = this.#clamp(position);
    this.#follow(this.position >= this.#end - 0.5);
    this.schedule();
  }

  #wheel(event) {
    if (this.unit === this.rowHeight || event.ctrlKey || event.shiftKey || !event.deltaY) return;
    event.preventDefault();
    const lines = [event.deltaY / this.rowHeight, event.deltaY, event.deltaY * this.fit][event.deltaMode];
    this.#moveTo(this.position + lines);
  }

  #key(event) {
    if (event.target !== this.scroller || event.altKey || event.ctrlKey || event.metaKey) return;
    const page = Math.max(1, this.#seen() - 2);
    const steps = { ArrowUp: -1, ArrowDown: 1, PageUp: -page, PageDown: page, Home: -Infinity, End: Infinity };
    const step = event.key === " " ? (event.shiftKey ? -page : page) : steps[event.key];
    if (step === undefined) return;
    event.preventDefault();
    let to = step === Infinity ? this.#end : this.position + step;
    while (to > 0 && to < this.#end && this.hides(Math.floor(to))) to += Math.sign(step);
    this.#moveTo(to);
  }

  /** How many rows the reader sees. */
  #seen() {
    const { top, bottom } = this.scroller.getBoundingClientRect();
    const boxes = [...this.rows.values()].map((row) => row.getBoundingClientRect());
    return boxes.filter((box) => box.bottom > top && box.top < bottom).length;
  }

  #draw() {
    const height = this.scroller.clientHeight;
    if (!height) return;
    this.height = height;
    if (this.following) this.position = this.#end;
    this.position = this.#clamp(this.position);
    const visible = Math.ceil(height / this.rowHeight) + 1;
    let first = Math.max(0, Math.floor(this.position) - OVERSCAN);
    let last = Math.min(this.total, Math.floor(this.position) + visible + OVERSCAN);
    this.#sync(first, last);
    // Lines may be hidden, and rows have no height: go on until the list is full.
    const limit = Math.min(this.total, first + 2 * FURTHEST);
    while (last < limit && this.rows.size < MOST_ROWS && this.#heightBelow() < height) {
      last = Math.min(limit, this.#shownFrom(last) + visible);
      this.#sync(first, last);
    }
    if (last === this.total) {
      const { fit } = this;
      this.#measureEnd(height);
      // Rows that this brings into sight may have other heights than was assumed of them.
      if (Math.abs(fit - this.fit) > 0.01) this.schedule();
      if (this.following) this.position = this.#end;
      first = Math.max(0, Math.floor(this.position) - OVERSCAN);
      this.#sync(first, last);
    }
    this.#place(height);
    this.#settle(height);
    this.onRange(first, last);
  }

  #sync(first, last) {
    for (const [index, row] of this.rows) {
      if (index >= first && index < last && !this.hides(index)) continue;
      row.remove();
      this.rows.delete(index);
    }
    let before = this.list.firstChild;
    for (let index = first; index < last; index += 1) {
      if (this.hides(index)) continue;
      let row = this.rows.get(index);
      if (row && row === before) {
        before = row.nextSibling;
        continue;
      }
      row ??= this.render(index);
      this.rows.set(index, row);
      this.list.insertBefore(row, before);
    }
  }

  /** From the top edge of what the reader sees to the end of the rows. */
  #heightBelow() {
    const row = this.rows.get(this.#shownFrom(Math.floor(this.position)));
    return row ? this.list.getBoundingClientRect().bottom - row.getBoundingClientRect().top : 0;
  }

  /** This line, or where it is hidden the next that is not. */
  #shownFrom(index) {
    let shown = index;
    while (shown < this.total && this.hides(shown)) shown += 1;
    return shown;
  }

  /** How many of the last lines fill the list, by their true heights. */
  #measureEnd(height) {
    let room = height;
    let fit = 0;
    for (let index = this.total - 1; index >= 0 && fit < FURTHEST; index -= 1) {
      const row = this.rows.get(index);
      const own = row ? row.getBoundingClientRect().height : this.hides(index) ? 0 : this.rowHeight;
      if (own && own >= room) {
        fit += room / own;
        break;
      }
      fit += 1;
      room -= own;
    }
    this.fit = Math.max(fit, 0.01);
  }

  #place(height) {
    const whole = Math.min(Math.floor(this.position), this.total - 1);
    const shown = this.#shownFrom(whole);
    const row = this.rows.get(shown);
    let offset = 0;
    if (row) {
      const box = row.getBoundingClientRect();
      offset = box.top - this.list.getBoundingClientRect().top + (shown === whole ? this.position - whole : 0) * box.height;
    }
    this.layer.style.height = `${height}px`;
    this.list.style.transform = `translateY(${-offset}px)`;
  }

  #settle(height) {
    const { unit } = this;
    this.space.style.height = `${Math.max(height, this.#end * unit + height)}px`;
    const wanted = this.position * unit;
    if (Math.abs(this.scroller.scrollTop - wanted) >= 1) this.scroller.scrollTop = wanted;
    this.top = this.scroller.scrollTop;
  }
}
