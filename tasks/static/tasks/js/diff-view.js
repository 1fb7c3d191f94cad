// The live diff of an attempt: file tree, files, comments, steps by keyboard; updated without moving the reader.

import { DiffStream } from "../../events/diff-stream.js";
import { api } from "./api.js";
import { toggle } from "./controls.js";
import { Highlighter } from "./diff-code.js";
import { AdriftComments } from "./diff-adrift.js";
import { Comments } from "./diff-comments.js";
import { DiffFile } from "./diff-file.js";
import { DiffTree } from "./diff-tree.js";
import { announce, findAll, h, icon, placeInOrder, setText } from "./dom.js";
import { fileOfHash } from "./places.js";
import { storage } from "./storage.js";

/** Narrower than this, in CSS pixels, two columns of code cannot be read: the view is unified. */
const SPLIT_WIDTH = 760;

export class DiffView extends EventTarget {
  /**
   * Events: "counts" {files, additions, deletions}; "send" {comments} when the reader sends their comments.
   * @param {HTMLElement} element with `data-attempt` and `data-highlight` (the address that colours code)
   * @param {object} options comments: whether lines can be commented; following:
   *   whether its files answer to the page's address; tree: whether it lists them
   */
  constructor(element, { attemptId = element.dataset.attempt, comments = true, following = true, tree = true } = {}) {
    super();
    this.element = element;
    this.attemptId = attemptId;
    this.settings = { following, tree };
    this.options = { ignoreWhitespace: false };
    this.files = new Map();
    this.order = [];
    this.pending = [];
    this.drafts = new Map();
    this.viewed = readViewed(attemptId);
    this.comments = comments ? new Comments(attemptId) : null;
    this.adrift = this.comments && new AdriftComments(this.comments);
    this.highlighter = new Highlighter(element.dataset.highlight);
    this.leaving = new AbortController();
    this.#build();
    this.#listen();
    this.stream = new DiffStream(attemptId);
    this.stream.addEventListener("progress", ({ detail }) => this.#say(detail));
    this.stream.addEventListener("note", ({ detail }) => this.#notice(detail));
    this.stream.addEventListener("files", ({ detail }) => this.#changed(detail.changed));
    for (const name of ["ready", "finished", "state"]) this.stream.addEventListener(name, () => this.#say());
    this.stream.start();
  }

  get split() {
    return this.wantsSplit && this.element.clientWidth >= SPLIT_WIDTH;
  }

  destroy() {
    this.leaving.abort();
    this.#keepWritten();
    this.stream.close();
    this.sight.disconnect();
    this.resize.disconnect();
    this.element.replaceChildren();
  }

  isViewed(record) {
    return Object.hasOwn(this.viewed, record.file) && this.viewed[record.file] === markOf(record);
  }

  setViewed(file, viewed) {
    this.viewed = readViewed(this.attemptId); // another window may have written to it
    if (viewed) this.viewed[file.path] = markOf(file.record);
    else delete this.viewed[file.path];
    storage.setItem(`vibe.viewed.${this.attemptId}`, JSON.stringify(this.viewed));
    this.keepPlace(() => file.fold(viewed));
  }

  /** A draft becomes a comment, unless it is empty. */
  keep(draft) {
    const text = draft?.text.trim();
    if (text) this.comments.put({ ...draft, text });
  }

  /** What is still being written, too, when the reader goes. */
  #keepWritten() {
    for (const file of this.files.values()) {
      const { editing } = file;
      file.editing = null;
      this.keep(editing);
    }
    for (const draft of this.drafts.values()) this.keep(draft);
    this.drafts.clear();
  }

  async loadWhole(path) {
    const [record] = await api.get(`/api/task-attempts/${this.attemptId}/diff?file=${encodeURIComponent(path)}`, { timeout: 60_000 });
    return record;
  }

  #build() {
    this.summary = h("span.diff-summary", { role: "status" });
    this.sendButton = h("button.button.button-small.button-primary", { type: "button", hidden: true, onclick: () => this.#send() }, icon("send"), h("span"));
    this.notice = h("p.notice", { role: "status", hidden: true });
    this.message = h("div.diff-message.empty");
    this.list = h("div.diff-files", { tabindex: "-1" }, this.message);
    this.tree = new DiffTree();
    this.element.classList.add("diff");
    this.element.replaceChildren(
      h("div.diff-bar", {}, this.summary, h("div.diff-tools", {}, this.sendButton, ...this.#tools())),
      this.notice,
      ...(this.adrift ? [this.adrift.element] : []),
      h("div.diff-panes", {}, this.settings.tree && this.tree.element, this.list),
    );
    this.sight = new IntersectionObserver((entries) => this.#inSight(entries), { root: this.list, rootMargin: "900px 0px" });
    this.resize = new ResizeObserver(() => this.#resized());
    this.resize.observe(this.element);
    this.#say();
  }

  #tools() {
    const redraw = () => this.keepPlace(() => this.#redraw());
    const tools = [
      toggle("Split", { key: "diff-split", on: false, title: "Old and new side by side (u)", change: (on) => { this.wantsSplit = on; redraw(); } }),
      toggle("Ignore blanks", { key: "diff-blanks", on: false, title: "Hide changes of white space (w)", change: (on) => { this.options.ignoreWhitespace = on; redraw(); } }),
    ];
    [this.splitButton, this.blanksButton] = tools;
    this.splitButton.classList.add("diff-split-toggle");
    if (this.settings.tree) {
      tools.push(toggle("Files", { key: "diff-tree", on: true, title: "Show the list of files", change: (on) => this.element.classList.toggle("is-treeless", !on) }));
      tools.at(-1).classList.add("diff-tree-toggle");
    }
    const fold = h("button.button.button-small.button-quiet", { type: "button", title: "Fold or show all files", onclick: () => this.#foldAll() }, "Fold all");
    return [...tools, fold];
  }

  #listen() {
    const { signal } = this.leaving;
    this.list.addEventListener("scroll", () => this.#scrolled(), { signal, passive: true });
    this.list.addEventListener("click", (event) => this.#clicked(event), { signal });
    this.tree.element.addEventListener("click", (event) => this.#treeClicked(event), { signal });
    this.comments?.addEventListener("change", ({ detail }) => this.#commented(detail.file), { signal });
    window.addEventListener("pagehide", () => this.#keepWritten(), { signal });
    if (this.settings.following) window.addEventListener("hashchange", () => this.#followHash(), { signal });
  }

  // What arrives

  /** Something to know about the diff itself: that it is polled, that git fails. An empty message takes it back. */
  #notice({ level, message }) {
    this.notice.className = `notice ${level === "error" ? "notice-red" : "notice-amber"}`;
    this.notice.hidden = !message;
    setText(this.notice, message);
  }

  #changed(paths) {
    this.keepPlace(() => {
      for (const path of paths) this.#put(path, this.stream.files.get(path));
      this.#order();
    });
    this.#count();
    this.#say();
    if (this.settings.following && !this.followed) this.#followHash();
  }

  #put(path, record) {
    const file = this.files.get(path);
    if (!record) {
      if (!file) return;
      if (file.editing) this.drafts.set(path, file.editing);
      this.sight.unobserve(file.element);
      file.element.remove();
      this.files.delete(path);
    } else if (file) {
      file.setRecord(record);
    } else {
      const fresh = new DiffFile(this, record);
      fresh.element.file = fresh;
      fresh.element.dataset.key = path;
      if (this.isViewed(record)) fresh.fold(true);
      fresh.editing = this.drafts.get(path) ?? null;
      this.drafts.delete(path);
      this.files.set(path, fresh);
      this.pending.push(fresh);
    }
  }

  #order() {
    this.order = [...this.files.values()].sort((a, b) => comparePaths(a.path, b.path));
    placeInOrder(this.list, this.order.map((file) => file.element));
    for (const file of this.pending) this.sight.observe(file.element);
    this.pending = [];
  }

  #count() {
    const records = this.order.map((file) => file.record);
    const sum = (name) => records.reduce((total, record) => total + record[name], 0);
    this.counts = { files: records.length, additions: sum("additions"), deletions: sum("deletions") };
    this.tree.setFiles(records.map((record) => ({ ...record, comments: this.comments?.of(record.file).length ?? 0 })));
    this.dispatchEvent(new CustomEvent("counts", { detail: this.counts }));
  }

  #commented(path) {
    this.keepPlace(() => this.files.get(path)?.draw());
    this.#count();
    this.#say();
  }

  #say(progress = null) {
    const { files = 0, additions = 0, deletions = 0 } = this.counts ?? {};
    const { ready, finished, state } = this.stream ?? {};
    this.summary.replaceChildren(
      ...(files ? [h("strong", {}, `${files.toLocaleString()} ${files === 1 ? "file" : "files"}`), " ", h("span.plus", {}, `+${additions}`), " ", h("span.minus", {}, `−${deletions}`)] : []),
      ...(ready || finished || state === "gone" ? [] : [h("span.count", {}, progress ? ` ${progress.done.toLocaleString()} of ${progress.total.toLocaleString()}…` : files ? " loading…" : "")]),
    );
    this.message.hidden = files > 0;
    this.element.classList.toggle("is-empty", !files && Boolean(ready || finished || state === "gone"));
    this.message.replaceChildren(...this.#emptyMessage({ ready, finished, state }));
    if (ready) this.adrift?.draw((path) => this.files.has(path));
    const count = this.comments?.size ?? 0;
    this.sendButton.hidden = !count;
    setText(this.sendButton.lastChild, `Send ${count} ${count === 1 ? "comment" : "comments"}`);
  }

  #emptyMessage({ ready, finished, state }) {
    if (state === "gone") return [icon("warning"), h("h3", {}, "This diff is no longer there"), h("p", {}, "Its attempt was deleted, or you may no longer see it.")];
    if (finished) return [icon("diff"), h("h3", {}, "No changes"), h("p", {}, "This attempt ended without any.")];
    if (ready) return [icon("diff"), h("h3", {}, "No changes"), h("p", {}, "What changes in the attempt's worktree appears here as it happens.")];
    return [h("span.skeleton.diff-skeleton"), h("span.skeleton.diff-skeleton"), h("span.visually-hidden", {}, "Loading the changes")];
  }

  // The reader's place

  /** Changes the page so that what the reader looks at stays where it is on the screen. */
  keepPlace(change) {
    const anchors = this.#anchors();
    const focused = this.list?.contains(document.activeElement) ? document.activeElement : null;
    change();
    const anchor = anchors.find(({ element }) => element.isConnected);
    if (anchor) this.list.scrollTop += anchor.element.getBoundingClientRect().top - anchor.top;
    if (focused?.isConnected && document.activeElement !== focused) focused.focus({ preventScroll: true });
  }

  /** Elements at the top edge and where they are: several, as the first may be what goes away. */
  #anchors() {
    if (!this.list?.scrollTop) return [];
    const edge = this.list.getBoundingClientRect().top;
    const below = (element) => element.getBoundingClientRect().bottom > edge + 40;
    const from = this.#firstBelow(edge + 40);
    if (!from) return [];
    const rows = findAll(".diff-line", from.body).filter(below).slice(0, 40);
    const next = from.element.nextElementSibling;
    return [...rows, from.element, next].filter(Boolean).map((element) => ({ element, top: element.getBoundingClientRect().top }));
  }

  #inSight(entries) {
    this.keepPlace(() => {
      // The height comes with the entry: to ask for it after each change would lay out the page each time.
      for (const { target, isIntersecting, boundingClientRect } of entries) target.file.show(isIntersecting, boundingClientRect.height);
    });
  }

  #scrolled() {
    this.scrolling ||= requestAnimationFrame(() => {
      this.scrolling = 0;
      this.tree.setCurrent(this.#current()?.path ?? null);
    });
  }

  #current() {
    return this.#firstBelow(this.list.getBoundingClientRect().top + 60);
  }

  /** The first file that reaches below a height of the window. */
  #firstBelow(edge) {
    let [low, high] = [0, this.order.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.order[middle].element.getBoundingClientRect().bottom > edge) high = middle;
      else low = middle + 1;
    }
    return this.order[low];
  }

  #resized() {
    const { split } = this;
    if (split === this.wasSplit) return;
    this.wasSplit = split;
    this.keepPlace(() => this.#redraw());
  }

  #redraw() {
    for (const file of this.files.values()) file.draw();
  }

  #foldAll() {
    const files = this.order;
    const fold = files.some((file) => !file.isFolded);
    this.keepPlace(() => files.forEach((file) => file.fold(fold)));
  }

  // Going somewhere

  #followHash() {
    const path = fileOfHash(location.hash);
    const file = path && this.files.get(path);
    if (!file) return;
    this.followed = true;
    this.goTo(file);
  }

  goTo(file) {
    file.show(true);
    file.element.scrollIntoView({ block: "start" });
    this.tree.setCurrent(file.path);
  }

  #treeClicked(event) {
    const link = event.target.closest("a");
    const file = link && this.files.get(link.parentElement.path);
    if (!file) return;
    event.preventDefault();
    if (this.settings.following) history.replaceState(history.state, "", link.hash);
    if (file.isFolded) file.fold(false);
    this.goTo(file);
  }

  #clicked(event) {
    const cell = event.target.closest(".diff-number");
    const row = cell?.closest(".diff-line");
    if (!row || !this.comments) return;
    const file = row.closest(".diff-file").file;
    const lines = row.item.lines;
    const line = lines.length === 2 && cell.cellIndex >= 2 ? lines[1] : lines[0];
    if (line) this.#comment(file, row, line);
  }

  #comment(file, row, line) {
    this.#point(row);
    file.comment(line, line.kind === "del" ? "old" : "new");
  }

  #send() {
    this.dispatchEvent(new CustomEvent("send", { detail: { comments: this.comments.all } }));
  }

  // The keyboard

  static KEYS = {
    j: "Next file", k: "File before", n: "Next change", p: "Change before", c: "Comment on the chosen line",
    o: "Fold or show the file", v: "Mark the file as viewed", u: "Side by side, or not", w: "Ignore blanks, or not",
  };

  /** Does what a key of KEYS stands for. */
  act(key) {
    const actions = {
      j: () => this.#stepFile(1), k: () => this.#stepFile(-1), n: () => this.#stepChange(1), p: () => this.#stepChange(-1),
      c: () => this.#commentHere(), o: () => this.#foldHere(), v: () => this.#viewedHere(),
      u: () => this.splitButton.click(), w: () => this.blanksButton.click(),
    };
    if (this.files.size) actions[key]();
  }

  #stepFile(by) {
    const files = this.order;
    const at = files.indexOf(this.#current());
    const edge = this.list.getBoundingClientRect().top;
    const begun = at >= 0 && files[at].element.getBoundingClientRect().top < edge - 4;
    const next = files[Math.min(Math.max(0, at + (by < 0 && begun ? 0 : by)), files.length - 1)];
    this.goTo(next);
    next.foldButton.focus({ preventScroll: true });
    announce(`${next.path}, ${next.record.additions} added, ${next.record.deletions} deleted`);
  }

  #stepChange(by) {
    const rows = findAll(".diff-line", this.list).filter((row) => row.item.lines.some((line) => line && line.kind !== "context"));
    const changed = new Set(rows);
    const starts = rows.filter((row) => !changed.has(row.previousElementSibling));
    const edge = this.list.getBoundingClientRect().top + 120;
    const from = this.pointed?.isConnected ? starts.findLastIndex((row) => isAtOrBefore(row, this.pointed)) : null;
    let at = from === null ? starts.findIndex((row) => row.getBoundingClientRect().top >= edge - 80) : from + by;
    if (from === null && by < 0) at -= 1;
    const row = starts[at];
    if (row) this.#point(row, true);
    else this.#stepFile(by);
  }

  #point(row, scroll = false) {
    this.pointed?.classList.remove("is-pointed");
    this.pointed = row;
    row.classList.add("is-pointed");
    if (!scroll) return;
    row.tabIndex = -1;
    row.focus({ preventScroll: true });
    const top = row.getBoundingClientRect().top - this.list.getBoundingClientRect().top;
    this.list.scrollTop += top - Math.min(140, this.list.clientHeight / 3);
  }

  focusLine() {
    if (this.pointed?.isConnected) this.#point(this.pointed, true);
  }

  #commentHere() {
    const row = this.pointed?.isConnected ? this.pointed : null;
    const line = row?.item.lines.findLast((one) => one);
    if (line && this.comments) this.#comment(row.closest(".diff-file").file, row, line);
    else announce("Choose a change first: n goes to the next one.");
  }

  #foldHere() {
    const file = this.#current();
    if (file) this.keepPlace(() => file.fold(!file.isFolded));
  }

  #viewedHere() {
    const file = this.#current();
    if (file) file.viewed.click();
  }
}

function isAtOrBefore(row, other) {
  return row === other || Boolean(row.compareDocumentPosition(other) & Node.DOCUMENT_POSITION_FOLLOWING);
}

/** As the tree shows them: a folder's subfolders before its files. */
export function comparePaths(a, b) {
  const [x, y] = [a.split("/"), b.split("/")];
  for (let i = 0; ; i += 1) {
    const [lastX, lastY] = [i === x.length - 1, i === y.length - 1];
    if (lastX !== lastY) return lastX ? 1 : -1;
    if (x[i] !== y[i]) return x[i] < y[i] ? -1 : 1;
    if (lastX) return 0;
  }
}

/** Short, and another one when the diff is: a file that changes after it was viewed is to be viewed again. */
function markOf({ additions, deletions, diff }) {
  let sum = 0;
  for (let i = 0; i < diff.length; i += 1) sum = (Math.imul(sum, 31) + diff.charCodeAt(i)) | 0;
  return `${additions}.${deletions}.${diff.length}.${sum}`;
}

function readViewed(attemptId) {
  try {
    return JSON.parse(storage.getItem(`vibe.viewed.${attemptId}`)) ?? {};
  } catch {
    return {};
  }
}
