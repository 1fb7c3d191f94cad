// The files of a diff as a tree of folders with their counts.

import { fileTree } from "./diff-parse.js";
import { h, icon, reconcile, setText } from "./dom.js";
import { fileHash } from "./places.js";

export class DiffTree {
  constructor() {
    this.folded = new Set();
    this.rows = new Map();
    this.files = [];
    this.current = null;
    this.filter = h("input.input.diff-filter", { type: "search", placeholder: "Filter files", "aria-label": "Filter files", spellcheck: "false" });
    this.filter.addEventListener("input", () => this.#draw());
    this.list = h("ul.diff-tree-list");
    this.element = h("nav.diff-tree", { "aria-label": "Changed files" }, this.filter, this.list);
  }

  /** @param {object[]} files records of the diff, with `comments` counts */
  setFiles(files) {
    this.files = files;
    this.filter.hidden = files.length < 8;
    this.#draw();
  }

  setCurrent(path) {
    if (path === this.current) return;
    const before = this.rows.get(this.current);
    this.current = path;
    if (before) this.#point(before);
    const row = this.rows.get(path);
    if (!row) return;
    this.#point(row);
    row.scrollIntoView({ block: "nearest" });
  }

  #draw() {
    const sought = this.filter.value.trim().toLowerCase();
    const files = sought ? this.files.filter(({ file }) => file.toLowerCase().includes(sought)) : this.files;
    this.rows.clear();
    reconcile(this.list, [...this.#walk(fileTree(files), 0)], {
      keyOf: (row) => (row.file ? `f${row.path}` : `d${row.path}`),
      make: (row) => (row.file ? this.#makeFile() : this.#makeFolder()),
      update: (element, row) => this.#update(element, row),
    });
  }

  *#walk(nodes, depth) {
    for (const node of nodes) {
      yield { ...node, depth };
      if (!this.folded.has(node.path)) yield* this.#walk(node.children, depth + 1);
    }
  }

  #makeFile() {
    return h("li", {}, h("a.diff-tree-row", {}, h("span.diff-letter"), h("span.truncate.grow"), h("span.diff-tree-notes"), h("span.plus"), h("span.minus")));
  }

  #makeFolder() {
    const button = h("button.diff-tree-row", { type: "button" }, icon("chevron-down"), h("span.truncate"));
    button.addEventListener("click", () => {
      const { path } = button.parentElement;
      if (!this.folded.delete(path)) this.folded.add(path);
      this.#draw();
    });
    return h("li", {}, button);
  }

  #update(element, { name, path, file, depth }) {
    element.path = path;
    if (file) this.rows.set(path, element);
    const row = element.firstElementChild;
    row.style.paddingInlineStart = `${8 + depth * 14}px`;
    if (!file) {
      setText(row.querySelector("span"), name);
      row.setAttribute("aria-expanded", String(!this.folded.has(path)));
      return;
    }
    row.href = fileHash(path);
    row.title = path;
    const [letter, label, notes, plus, minus] = row.children;
    row.dataset.change = file.change;
    setText(letter, { added: "A", deleted: "D", renamed: "R" }[file.change] ?? "M");
    setText(label, name);
    setText(notes, file.comments ? String(file.comments) : "");
    setText(plus, file.additions ? `+${file.additions}` : "");
    setText(minus, file.deletions ? `−${file.deletions}` : "");
    this.#point(element);
  }

  #point(element) {
    const row = element.firstElementChild;
    if (element.path === this.current && row.href) row.setAttribute("aria-current", "true");
    else row.removeAttribute("aria-current");
  }
}
