// The search above a log: its field, its hits, and stepping through them.

import { h, icon } from "./dom.js";
import { plainText } from "./ansi.js";
import { KEPT_HITS, markMatches, pattern, searchLog } from "./log-search.js";

const DRAW_EVERY = 120;

export class LogSearchBar {
  /**
   * @param {string} url of the search
   * @param {object} options `onHit(line)` when one is chosen, `onPattern()` when another text is sought
   */
  constructor(url, { onHit, onPattern }) {
    Object.assign(this, { url, onHit, onPattern, hits: [], chosen: -1, request: null, expression: null });
    this.#build();
  }

  destroy() {
    this.cancel();
    markMatches("log-hit", [], null);
  }

  /** Marks what is sought in the rows in sight. */
  mark(elements) {
    markMatches("log-hit", elements, this.expression);
  }

  cancel() {
    this.request?.abort();
    this.request = null;
  }

  focus() {
    this.field.focus();
    this.field.select();
  }

  #build() {
    this.field = h("input.input", { type: "search", placeholder: "Search the whole log", "aria-label": "Search the whole log", spellcheck: "false" });
    this.matchCase = this.#option("Aa", "Match upper and lower case");
    this.regex = this.#option(".*", "Regular expression");
    this.form = h(
      "form.log-search", { role: "search", onsubmit: (event) => this.#submit(event) },
      h("div.search", {}, icon("search"), this.field), this.matchCase, this.regex,
    );
    this.field.addEventListener("keydown", (event) => this.#key(event));
    this.field.addEventListener("input", () => this.field.value || this.#clear());
    this.summary = h("span.log-summary", { role: "status" });
    this.list = h("ol.log-hits", { tabindex: "-1", onclick: (event) => this.#clicked(event) });
    const button = (name, label, onclick) =>
      h("button.button.button-small.button-quiet.button-icon", { type: "button", "aria-label": label, title: label, onclick }, icon(name));
    this.results = h(
      "section.log-results", { hidden: true, "aria-label": "Search results" },
      h(
        "div.log-results-head", {}, this.summary,
        button("arrow-up", "Previous hit (Shift+Enter)", () => this.#step(-1)),
        button("arrow-down", "Next hit (Enter)", () => this.#step(1)),
        button("close", "Leave the search (Esc)", () => this.#clear()),
      ),
      this.list,
    );
  }

  #option(text, title) {
    const button = h("button.button.button-small.button-quiet.button-icon", { type: "button", "aria-pressed": "false", "aria-label": title, title }, text);
    button.addEventListener("click", () => {
      button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
      if (this.field.value) this.#start();
    });
    return button;
  }

  #query() {
    const on = (button) => button.getAttribute("aria-pressed") === "true";
    return { text: this.field.value, regex: on(this.regex), matchCase: on(this.matchCase) };
  }

  #submit(event) {
    event.preventDefault();
    if (this.field.value && JSON.stringify(this.#query()) !== this.sought) this.#start();
    else this.#step(1);
  }

  #key(event) {
    if (event.key === "Escape" && (this.field.value || this.request)) {
      event.preventDefault();
      event.stopPropagation();
      this.#clear();
    } else if (event.key === "Enter" && event.shiftKey) {
      event.preventDefault();
      this.#step(-1);
    }
  }

  #clear() {
    this.cancel();
    Object.assign(this, { hits: [], chosen: -1, expression: null, sought: "" });
    this.field.value = "";
    this.results.hidden = true;
    this.list.replaceChildren();
    this.onPattern();
  }

  async #start() {
    this.cancel();
    const query = this.#query();
    const controller = new AbortController();
    Object.assign(this, { request: controller, hits: [], chosen: -1, count: 0, part: 0, failure: "", truncated: false, sought: JSON.stringify(query) });
    this.expression = pattern(query);
    this.results.hidden = false;
    this.list.replaceChildren();
    this.onPattern();
    this.#draw("Searching…");
    try {
      await searchLog(this.url, query, controller.signal, (message) => this.#take(message, controller));
    } catch (error) {
      if (controller.signal.aborted) return;
      this.request = null;
      this.#draw(error.message);
      return;
    }
    if (this.request === controller) this.#finish();
  }

  #take(message, controller) {
    if (this.request !== controller) return;
    if (message.error) this.failure = message.error;
    if (message.truncated) this.truncated = true;
    if (message.scanned) this.part = message.scanned / message.total;
    if (message.line !== undefined) {
      this.count += 1;
      if (this.hits.length < KEPT_HITS) this.hits.push(message);
    }
    this.drawing ||= setTimeout(() => {
      this.drawing = 0;
      if (this.request) this.#draw(`${this.count.toLocaleString()} found, searching… ${Math.floor(100 * this.part)} %`);
    }, DRAW_EVERY);
    if (this.count === 1 && this.chosen < 0) this.#step(1);
  }

  #finish() {
    this.request = null;
    const count = `${this.count.toLocaleString()}${this.truncated ? " or more" : ""} ${this.count === 1 ? "line" : "lines"} found`;
    if (this.failure) this.#draw(`${count}. ${this.failure}`);
    else if (!this.count) this.#draw("Nothing found");
    else if (this.count > this.hits.length) this.#draw(`${count}, the first ${this.hits.length.toLocaleString()} shown`);
    else this.#draw(count);
  }

  #draw(summary) {
    this.summary.textContent = this.chosen >= 0 && !this.request ? `${this.chosen + 1} of ${summary}` : summary;
    this.summary.dataset.text = summary;
    for (let i = this.list.childElementCount; i < this.hits.length; i += 1) this.list.append(this.#hit(i));
  }

  #hit(i) {
    const { line, content } = this.hits[i];
    return h(
      "li", {},
      h("button.log-hit", { type: "button", dataset: { hit: i } }, h("span.log-number", {}, String(line + 1)), h("span.truncate", {}, plainText(content.slice(0, 400)))),
    );
  }

  #clicked(event) {
    const button = event.target.closest("[data-hit]");
    if (button) this.#choose(Number(button.dataset.hit));
  }

  #step(by) {
    if (!this.hits.length) return;
    this.#choose((this.chosen + by + this.hits.length) % this.hits.length);
  }

  #choose(i) {
    this.#draw(this.summary.dataset.text);
    this.list.querySelector('[aria-current="true"]')?.removeAttribute("aria-current");
    this.chosen = i;
    const button = this.list.querySelector(`[data-hit="${i}"]`);
    button?.setAttribute("aria-current", "true");
    button?.scrollIntoView({ block: "nearest" });
    this.#draw(this.summary.dataset.text);
    this.onHit(this.hits[i].line);
  }
}
