/**
 * The output of one run: its lines as they come, and any place of its past.
 *
 * The element needs `data-process`; its address in the page is `#L12` or `#L12-L20`, which is followed and set.
 */

import { SHOWN_LIMIT, clip, plainText, renderLine } from "./ansi.js";
import { clockTime, confirmOn, copyText, toggle, tool } from "./controls.js";
import { findAll, h, icon, setText } from "./dom.js";
import { LineWindow } from "./line-window.js";
import { LogSearchBar } from "./log-search-bar.js";
import { LogSource } from "./log-source.js";
import { lineRange, rangeHash } from "./places.js";

/** What copying fetches at most, in lines: a clipboard is not a file. */
const COPY_LIMIT = 50_000;
/** Longer parts of a line (one that was split for its size) stay rows of their own, in characters. */
const JOINED_LIMIT = 2_000;
const KIND_NAMES = { stderr: "stderr", system: "system", error: "error" };

export class LogView {
  /** @param {HTMLElement} element */
  constructor(element, { processId = element.dataset.process, ended = false, queued = false, watch } = {}) {
    this.element = element;
    this.processId = processId;
    this.queued = queued;
    this.selected = null;
    this.unseen = 0;
    this.source = new LogSource(processId, { ended, watch });
    this.abort = new AbortController();
    this.#build();
    this.#listen();
    this.#open();
  }

  destroy() {
    this.abort.abort();
    this.source.close();
    this.window.destroy();
    this.search.destroy();
    this.element.replaceChildren();
  }

  /** The record of the run changed. */
  setState({ ended, queued }) {
    this.queued = queued;
    // Also when it has ended meanwhile: what it printed last is still to come, and the stream says when that was all.
    if (ended || !queued) this.source.follow();
    this.#say();
  }

  #build() {
    this.scroller = h("div.log-scroller", { tabindex: "0", role: "region", "aria-label": "Output of the run" });
    this.message = h("p.log-message", { role: "status" });
    this.state = h("span.log-state.count");
    this.endButton = h(
      "button.button.log-end",
      { type: "button", hidden: true, onclick: () => this.window.toEnd() },
      icon("arrow-down"),
      h("span", {}, "Jump to the end"),
    );
    this.window = new LineWindow(this.scroller, {
      render: (index) => this.#row(index),
      hides: (index) => this.#goesOn(index),
      onRange: (first, last) => this.#inSight(first, last),
      onFollow: (following) => this.#followed(following),
    });
    this.search = new LogSearchBar(`${this.source.url}/search`, {
      onHit: (line) => this.#goTo([line, line]),
      onPattern: () => this.#mark(),
    });
    this.element.classList.add("log");
    this.element.replaceChildren(
      h("div.log-bar", {}, this.search.form, this.state, h("div.log-tools", {}, ...this.#tools())),
      this.search.results,
      h("div.log-frame", {}, this.scroller, this.message, this.endButton),
    );
    this.window.remeasure();
  }

  #tools() {
    const shows = (name) => (on) => {
      this.scroller.classList.toggle(name, on);
      this.window.clear();
      this.window.remeasure();
    };
    const copy = tool("copy", "Copy", "Copy the chosen lines, or all", () => this.#copy(copy));
    const download = h(
      "a.button.button-small.button-quiet",
      { href: `${this.source.url}?download=1`, download: "", title: "Download the whole log" },
      icon("download"),
      h("span", {}, "Download"),
    );
    return [
      toggle("Wrap", { key: "log-wrap", on: true, title: "Wrap long lines", change: shows("is-wrapped") }),
      toggle("Times", { key: "log-times", on: false, title: "Show when each line was printed", change: shows("has-times") }),
      copy,
      download,
    ];
  }

  #listen() {
    const { signal } = this.abort;
    this.source.addEventListener("lines", ({ detail }) => this.#arrived(detail), { signal });
    this.source.addEventListener("reset", () => { this.window.clear(); this.window.setTotal(0); }, { signal });
    this.source.addEventListener("state", () => this.#say(), { signal });
    this.scroller.addEventListener("click", (event) => this.#clicked(event), { signal });
    window.addEventListener("hashchange", () => this.#followHash(), { signal });
  }

  async #open() {
    await this.source.open();
    this.#setTotal();
    this.#say();
    this.#followHash();
  }

  #arrived({ first, last, fresh }) {
    this.#setTotal();
    this.window.refresh(first, last);
    if (fresh && !this.window.following) this.unseen += last - first;
    this.#showEnd();
    this.#say();
  }

  #setTotal() {
    this.scroller.style.setProperty("--digits", Math.max(3, String(this.source.total).length));
    this.window.setTotal(this.source.total);
  }

  #row(index) {
    const record = this.source.get(index);
    const number = String(index + 1);
    const row = h("div.log-line", { dataset: { line: number } });
    const link = h("a.log-number", { href: `#L${number}`, "aria-label": `Line ${number}`, tabindex: "-1" }, number);
    if (this.selected && index >= this.selected[0] && index <= this.selected[1]) row.classList.add("is-chosen");
    if (!record) {
      row.classList.add("is-absent");
      row.append(link, h("span.log-text.skeleton", { "aria-hidden": "true" }));
      return row;
    }
    row.classList.add(`log-${record.type}`);
    const clock = clockTime.format(new Date(record.timestamp));
    const kind = KIND_NAMES[record.type];
    row.append(
      link,
      h("time.log-time", { datetime: record.timestamp, title: record.timestamp }, clock),
      ...(kind ? [h("span.visually-hidden", {}, `${kind}: `)] : []),
      this.#text(this.#whole(index)),
    );
    return row;
  }

  /** Whether this is the start of a line (a prompt, a state of a progress bar) whose rest is in the next record. */
  #goesOn(index) {
    const record = this.source.get(index);
    const next = this.source.get(index + 1);
    return Boolean(record?.partial && record.content.length < JOINED_LIMIT && next?.type === record.type);
  }

  /** The line that ends in this record, from where it starts or was last overwritten from its start. */
  #whole(index) {
    let start = index;
    while (index - start < JOINED_LIMIT && !this.source.get(start).content.startsWith("\r") && this.#goesOn(start - 1)) start -= 1;
    let content = "";
    for (let i = start; i <= index; i += 1) content += this.source.get(i).content;
    return content;
  }

  #text(content) {
    const text = h("span.log-text");
    const shown = clip(content);
    renderLine(text, shown);
    if (!text.textContent) text.append(h("br")); // or who copies lines gets none for this one
    if (shown.length < content.length) {
      const rest = content.length - shown.length;
      const all = () => {
        // Without its colours: a million cells would take seconds.
        text.textContent = plainText(content.slice(0, SHOWN_LIMIT)) + content.slice(SHOWN_LIMIT);
        this.window.schedule();
      };
      text.append(h("button.log-more", { type: "button", onclick: all }, `Show ${rest.toLocaleString()} more characters`));
    }
    return text;
  }

  async #inSight(first, last) {
    this.#mark();
    if (await this.source.ensure(first, last)) this.window.refresh(first - 1, last);
  }

  #mark() {
    this.search.mark(findAll(".log-text", this.window.list));
  }

  #followed(following) {
    if (following) this.unseen = 0;
    this.#showEnd();
  }

  #showEnd() {
    this.endButton.hidden = this.window.following;
    const live = this.unseen ? `${this.unseen.toLocaleString()} new lines` : "Jump to the end";
    this.endButton.lastChild.textContent = live;
  }

  #clicked(event) {
    const number = event.target.closest?.(".log-number");
    if (!number) return;
    event.preventDefault();
    const line = Number(number.closest(".log-line").dataset.line) - 1;
    const range = event.shiftKey && this.selected ? [Math.min(this.selected[0], line), Math.max(this.selected[1], line)] : [line, line];
    history.replaceState(history.state, "", rangeHash(range));
    this.#choose(range);
  }

  #choose(range) {
    this.selected = range;
    for (const [index, row] of this.window.rows) {
      row.classList.toggle("is-chosen", Boolean(range) && index >= range[0] && index <= range[1]);
    }
  }

  #goTo([first, last]) {
    let shown = last;
    while (this.#goesOn(shown)) shown += 1;
    this.window.toLine(first);
    this.#choose([first, shown]);
  }

  #followHash() {
    const range = lineRange(location.hash, this.source.total);
    if (range) this.#goTo(range);
  }

  async #copy(button) {
    const [first, last] = this.selected ?? [0, this.source.total - 1];
    try {
      const records = await this.source.read(first, Math.min(last + 1, first + COPY_LIMIT));
      await copyText(records.map((record) => plainText(record.content)).join("\n"));
      const cut = last + 1 - first > records.length;
      confirmOn(button, cut ? `Copied ${records.length.toLocaleString()} lines` : "Copied");
    } catch (error) {
      confirmOn(button, error.message);
    }
  }

  /** Says in words what the log is doing, where there is nothing to see too. */
  #say() {
    const { total, error, finished, ended, line } = this.source;
    this.message.hidden = total > 0 && !error;
    this.message.classList.toggle("is-error", Boolean(error));
    setText(this.message, this.#message());
    const lines = `${total.toLocaleString()} ${total === 1 ? "line" : "lines"}`;
    const state = finished || ended || line === "live" || this.queued ? lines : `${lines} · ${line}`;
    setText(this.state, state);
  }

  #message() {
    const { error, finished, ended } = this.source;
    if (error) return error;
    if (this.queued) return "Queued: it starts as soon as a place is free.";
    return finished || ended ? "It printed nothing." : "Waiting for the first line…";
  }
}
