// Two attempts at one task side by side: how they stand, which files each changed, and both diffs.

import { DiffView, comparePaths } from "./diff-view.js";
import { find, findAll, h, reconcile, setText } from "./dom.js";
import { watchLine } from "./line-status.js";
import { TaskDocument } from "./task/document.js";
import { attemptState } from "./task/words.js";
import { elapsed, now } from "./time.js";

const SIDES = ["a", "b"];

class ComparePage {
  constructor(state) {
    this.state = state;
    this.document = new TaskDocument(state);
    this.diffs = {};
    const query = new URLSearchParams(location.search);
    const latest = this.document.attempts.slice(-2).map((attempt) => attempt.id);
    this.chosen = { a: query.get("a") ?? latest[0], b: query.get("b") ?? latest[1] ?? latest[0] };
    this.document.addEventListener("change", () => this.update());
    for (const side of SIDES) find(`#choose-${side}`).addEventListener("change", (event) => this.#choose(side, event.target.value));
    for (const button of findAll(".compare-switch button")) button.addEventListener("click", () => this.#show(button.dataset.side));
    find("#files").addEventListener("click", (event) => this.#goTo(event));
    this.document.start();
    watchLine(this.document.manager);
    setInterval(() => this.update(), 1_000);
    for (const side of SIDES) this.#open(side);
    this.update();
  }

  #choose(side, id) {
    this.chosen[side] = id;
    history.replaceState(null, "", `${location.pathname}?a=${this.chosen.a}&b=${this.chosen.b}`);
    this.#open(side);
    this.update();
  }

  #open(side) {
    this.diffs[side]?.destroy();
    this.diffs[side]?.unwatch();
    const host = find(`#diff-${side}`);
    if (!this.chosen[side]) return;
    host.dataset.highlight = find("#compare").dataset.highlight;
    const diff = new DiffView(host, { attemptId: this.chosen[side], comments: false, following: false, tree: false });
    diff.unwatch = watchLine(diff.stream.manager);
    diff.addEventListener("counts", () => this.#files());
    this.diffs[side] = diff;
  }

  update() {
    const { attempts } = this.document;
    for (const side of SIDES) this.#head(side, attempts);
    this.#files();
  }

  #head(side, attempts) {
    const select = find(`#choose-${side}`);
    reconcile(select, attempts.map((attempt, i) => ({ attempt, label: `#${i + 1} ${attempt.executor}` })), {
      keyOf: ({ attempt }) => attempt.id,
      make: ({ attempt }) => h("option", { value: attempt.id }),
      update: (option, { label }) => setText(option, label),
    });
    select.value = this.chosen[side] ?? "";
    const attempt = this.document.attempt(this.chosen[side]);
    if (!attempt) return;
    const runs = this.document.runs(attempt.id);
    const { state, words } = attemptState(attempt, runs);
    const badge = find(`#state-${side}`);
    badge.dataset.state = state;
    setText(badge, words);
    setText(find(`#facts-${side}`), this.#facts(runs));
    setText(find(`#head-${side}`), select.selectedOptions[0]?.text ?? "");
    find(`#open-${side}`).href = `${this.state.urls.page}?attempt=${attempt.id}&view=changes`;
  }

  #facts(runs) {
    const own = runs.filter((run) => run.started_at && run.run_reason !== "devserver");
    const end = own.at(-1)?.completed_at ?? now();
    const count = `${own.length} ${own.length === 1 ? "run" : "runs"}`;
    return own.length ? `${count} · ${elapsed(own[0].started_at, end)}` : "";
  }

  #files() {
    const paths = [...new Set(SIDES.flatMap((side) => [...(this.diffs[side]?.stream.files.keys() ?? [])]))].sort(comparePaths);
    const settled = SIDES.every((side) => this.diffs[side]?.stream.ready || this.diffs[side]?.stream.finished);
    find("#no-files").hidden = paths.length > 0 || !settled;
    reconcile(find("#files tbody"), paths, {
      keyOf: (path) => path,
      make: (path) => h("tr", {}, h("td", {}, h("button.compare-file.mono", { type: "button", title: path }, path)), h("td"), h("td")),
      update: (row, path) => SIDES.forEach((side, i) => this.#counts(row.cells[i + 1], this.diffs[side]?.stream.files.get(path))),
    });
  }

  #counts(cell, record) {
    const text = record ? `${record.change} ${record.additions} ${record.deletions}` : "";
    if (cell.dataset.shown === text) return;
    cell.dataset.shown = text;
    if (!record) cell.replaceChildren(h("span.count", {}, "–"));
    else cell.replaceChildren(...counts(record));
  }

  #goTo(event) {
    const path = event.target.closest(".compare-file")?.textContent;
    if (!path) return;
    for (const side of SIDES) {
      const file = this.diffs[side]?.files.get(path);
      if (file) this.diffs[side].goTo(file);
    }
  }

  #show(side) {
    find("#compare").dataset.shown = side;
    for (const button of findAll(".compare-switch button")) button.setAttribute("aria-pressed", String(button.dataset.side === side));
  }
}

function counts({ additions, deletions, change }) {
  const parts = [];
  if (additions) parts.push(h("span.plus", {}, `+${additions.toLocaleString()}`));
  if (deletions) parts.push(h("span.minus", {}, `−${deletions.toLocaleString()}`));
  return parts.length ? parts.flatMap((part) => [part, " "]) : [h("span.count", {}, change)];
}

new ComparePage(JSON.parse(find("#task-state").textContent));
