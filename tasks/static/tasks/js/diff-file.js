// One file of a diff. Updated in place: rows of lines that are still there stay the same elements.

import { confirmOn, copyText } from "./controls.js";
import { place } from "./diff-comments.js";
import { codeNodes } from "./diff-code.js";
import { changedParts, ignoreWhitespace, parseDiff, sideBySide } from "./diff-parse.js";
import { h, holdsSelection, icon, reconcile, setText } from "./dom.js";
import { fileHash } from "./places.js";

/** Changed lines above which a file starts folded. */
const LARGE = 600;
/** The height of a file's header with the borders, in CSS pixels. */
const HEAD = 39;
/** Rows drawn at once; the rest on request. */
const ROWS = 1_500;

/** Of a longer line only the start is drawn, in UTF-16 units. */
const LONGEST = 4_000;

const LETTERS = { added: "A", deleted: "D", modified: "M", renamed: "R", mode: "M" };
const OMITTED = { binary: "A binary file: there is nothing to show.", too_large: "This diff is too large to send with the others." };

export class DiffFile {
  /** @param {object} view the DiffView: options, comments, highlighter, `loadWhole(path)`, `keepPlace(change)` */
  constructor(view, record) {
    this.view = view;
    this.shown = false;
    this.rowsShown = ROWS;
    this.editing = null;
    this.whole = null;
    this.folded = null;
    this.#build(record);
    this.setRecord(record);
  }

  get path() {
    return this.record.file;
  }

  get isFolded() {
    if (this.folded !== null) return this.folded;
    const { change, additions, deletions, omitted } = this.record;
    return !omitted && (change === "deleted" || additions + deletions > LARGE);
  }

  setRecord(record) {
    // A whole diff that was fetched alone is that of an older state now.
    if (this.whole && JSON.stringify({ ...record, diff: "" }) !== JSON.stringify({ ...this.record, diff: "" })) this.whole = null;
    this.record = record;
    this.parsed = null;
    this.#head();
    this.draw();
  }

  fold(folded) {
    this.folded = folded;
    this.#head();
    this.draw();
  }

  /** Near enough to the eye to be drawn, or no longer: `height` is that of the whole file then, in CSS pixels. */
  show(shown, height = 0) {
    if (shown === this.shown) return;
    if (!shown) {
      if (this.editing || this.body.contains(document.activeElement) || holdsSelection(this.body)) return;
      this.body.style.minHeight = `${Math.max(0, height - HEAD)}px`;
      this.table?.remove();
      this.table = null;
    }
    this.shown = shown;
    this.draw();
  }

  get hunks() {
    this.parsed ??= parseDiff((this.whole ?? this.record).diff);
    return this.view.options.ignoreWhitespace ? ignoreWhitespace(this.parsed) : this.parsed;
  }

  #build(record) {
    this.body = h("div.diff-file-body");
    this.foldButton = h("button.diff-fold", { type: "button", onclick: () => this.fold(!this.isFolded) }, icon("chevron-down"));
    this.letter = h("span.diff-letter");
    this.name = h("a.diff-name", { href: fileHash(record.file) });
    this.counts = h("span.diff-counts");
    const copy = h("button.button.button-small.button-quiet.button-icon", { type: "button", title: "Copy the path", "aria-label": "Copy the path" }, icon("copy"));
    copy.addEventListener("click", async () => {
      await copyText(this.path);
      confirmOn(copy.appendChild(h("span.visually-hidden")), "Copied");
    });
    this.viewed = h("input", { type: "checkbox", onchange: () => this.view.setViewed(this, this.viewed.checked) });
    this.element = h(
      "article.diff-file", {},
      h(
        "header.diff-file-head", {},
        this.foldButton, this.letter, this.name, copy, this.counts,
        h("label.diff-viewed", {}, this.viewed, "Viewed"),
      ),
      this.body,
    );
  }

  #head() {
    const { file, old_path: oldPath, change, additions, deletions } = this.record;
    this.element.dataset.change = change;
    setText(this.letter, LETTERS[change] ?? "M");
    this.letter.title = change;
    const name = oldPath && oldPath !== file ? `${oldPath} → ${file}` : file;
    setText(this.name, name);
    this.element.setAttribute("aria-label", `${name}, ${change}, ${additions} added, ${deletions} deleted`);
    this.counts.replaceChildren(
      ...(additions ? [h("span.plus", {}, `+${additions.toLocaleString()}`)] : []),
      " ",
      ...(deletions ? [h("span.minus", {}, `−${deletions.toLocaleString()}`)] : []),
    );
    this.viewed.checked = this.view.isViewed(this.record);
    const folded = this.isFolded;
    this.element.classList.toggle("is-folded", folded);
    this.foldButton.setAttribute("aria-expanded", String(!folded));
    this.foldButton.setAttribute("aria-label", `${folded ? "Show" : "Fold"} ${file}`);
  }

  draw() {
    if (!this.shown) {
      this.body.style.minHeight ||= `${this.#estimate()}px`;
      // As long as it is far from the eye the browser need not lay it out; this is how high it would be.
      this.element.style.containIntrinsicBlockSize = `auto ${HEAD + parseFloat(this.body.style.minHeight)}px`;
      return;
    }
    this.body.style.minHeight = "";
    if (this.isFolded) this.#note(this.#foldedNote(), "Show it", () => this.fold(false));
    else if (this.record.omitted && !this.whole) this.#omitted();
    else if (!this.hunks.length) this.#note(this.#emptyNote());
    else this.#lines();
  }

  #estimate() {
    if (this.isFolded) return 44;
    return Math.min(60 + 20 * (this.record.additions + this.record.deletions), 20_000);
  }

  #foldedNote() {
    const { change, additions, deletions } = this.record;
    if (this.viewed.checked) return "Viewed.";
    if (change === "deleted") return "This file was deleted.";
    return additions + deletions > LARGE ? `A large change: ${(additions + deletions).toLocaleString()} lines.` : "Folded.";
  }

  #emptyNote() {
    const { change, additions, deletions, diff } = this.record;
    if (additions + deletions > 0) return "Only blanks changed.";
    if (change === "mode") return diff.trim() || "Only the file's mode changed.";
    if (change === "renamed") return "Renamed without a change.";
    return change === "added" ? "An empty file." : "Nothing to show.";
  }

  #omitted() {
    const loadable = this.record.omitted === "too_large";
    this.#note(OMITTED[this.record.omitted] ?? `Left out: ${this.record.omitted}.`, loadable ? "Load it" : null, () => this.#load());
  }

  async #load() {
    this.#note("Loading…");
    const asked = this.record;
    const found = await this.view.loadWhole(this.path).catch((error) => error);
    if (this.record !== asked) {
      if (this.record.omitted) this.#load(); // The answer may be older than what the stream has said meanwhile.
      return;
    }
    if (!found || found.omitted || found instanceof Error) {
      this.#note(found?.message ?? "The server leaves it out too.", "Try again", () => this.#load());
      return;
    }
    this.whole = found;
    this.parsed = null;
    this.folded = false;
    this.#head();
    this.draw();
  }

  #note(text, label = null, onclick = null) {
    this.table = null;
    this.body.replaceChildren(
      h("p.diff-note", {}, text, label && h("button.button.button-small", { type: "button", onclick }, label)),
    );
  }

  #lines() {
    // A file that is all new, or all gone, has nothing beside it.
    const split = this.view.split && !["added", "deleted"].includes(this.record.change);
    if (!this.table || this.table.dataset.split !== String(split)) {
      this.rows = h("tbody");
      this.table = h(
        `table.diff-table${split ? ".is-split" : ""}`, { dataset: { split } },
        h("caption.visually-hidden", {}, `Changes of ${this.path}`), ...columns(split), this.rows,
      );
      this.body.replaceChildren(this.table);
    }
    const all = this.#items(split);
    const items = all.slice(0, this.rowsShown);
    if (all.length > items.length) items.push({ key: "more", more: all.length - items.length });
    this.marks = new Map(this.hunks.flatMap((hunk) => [...changedParts(hunk.lines)]));
    this.colours = this.#colours();
    reconcile(this.rows, items, {
      keyOf: (item) => item.key,
      make: (item) => this.#make(item, split),
      update: (row, item) => this.#update(row, item, split),
    });
    this.#colourIn();
  }

  /** What the table shows, with keys that stay when lines above come or go. */
  #items(split) {
    const seen = new Map();
    const keyOf = (text) => {
      const count = (seen.get(text) ?? 0) + 1;
      seen.set(text, count);
      return `${text}#${count}`;
    };
    const placed = this.#placedComments();
    const items = [];
    for (const hunk of this.hunks) {
      items.push({ key: keyOf(`@${hunk.section}`), hunk });
      const rows = split ? sideBySide(hunk.lines) : hunk.lines.map((line) => [line]);
      for (const lines of rows) {
        items.push({ key: keyOf(lines.map(nameOf).join("|")), lines });
        for (const line of new Set(lines)) if (line) items.push(...(placed.get(line) ?? []));
      }
    }
    return [...items, ...(placed.get(null) ?? [])];
  }

  /** Comments and the open editor by the line they stand under; under null those whose line is gone. */
  #placedComments() {
    const lines = this.hunks.flatMap((hunk) => hunk.lines);
    const placed = new Map();
    const put = (line, item) => placed.set(line, [...(placed.get(line) ?? []), item]);
    for (const comment of this.view.comments?.of(this.path) ?? []) {
      if (this.editing?.id === comment.id) continue;
      put(place(comment, lines), { key: `comment:${comment.id}`, comment });
    }
    if (this.editing) put(place(this.editing, lines), { key: editorKey(this.editing), editor: this.editing });
    return placed;
  }

  #make(item, split) {
    const wide = split ? 4 : 3;
    if (item.hunk) return h("tr.diff-hunk", {}, h("td", { colspan: wide }));
    if (item.more) return h("tr.diff-more", {}, h("td", { colspan: wide }, h("button.button.button-small", { type: "button", onclick: () => this.#more() })));
    if (item.comment) return h("tr.diff-comment", {}, h("td", { colspan: wide }, this.#comment(item.comment)));
    if (item.editor) return h("tr.diff-comment", {}, h("td", { colspan: wide }, this.#editor(item.editor)));
    const row = h("tr.diff-line");
    for (const side of split ? ["old", "new"] : [null]) {
      if (side) row.append(this.#number(), h("td.diff-code"));
      else row.append(this.#number(), this.#number(), h("td.diff-code"));
    }
    return row;
  }

  #number() {
    return h("td.diff-number");
  }

  #update(row, item, split) {
    row.item = item;
    if (item.hunk) setText(row.firstChild, item.hunk.header);
    else if (item.more) setText(row.querySelector("button"), `Show ${Math.min(item.more, ROWS).toLocaleString()} of ${item.more.toLocaleString()} more lines`);
    else if (item.lines) this.#updateLine(row, item.lines, split);
    else if (item.comment) setText(row.querySelector(".diff-comment-text"), item.comment.text);
  }

  #updateLine(row, lines, split) {
    const cells = [...row.children];
    if (split) {
      lines.forEach((line, i) => {
        const side = i === 0 ? "old" : "new";
        const [number, code] = cells.slice(i * 2, i * 2 + 2);
        setText(number, line ? String(line[side]) : "");
        const kind = line ? line.kind : "none";
        number.className = `diff-number is-${kind}`;
        code.className = `diff-code is-${kind}`;
        this.#code(code, line, side);
      });
      return;
    }
    const [line] = lines;
    row.className = `diff-line is-${line.kind}`;
    setText(cells[0], line.old === null ? "" : String(line.old));
    setText(cells[1], line.new === null ? "" : String(line.new));
    this.#code(cells[2], line, line.kind === "del" ? "old" : "new");
  }

  #code(cell, line, side) {
    if (!line) return;
    const tokens = this.colours.get(line)?.[side];
    const mark = this.marks.get(line);
    const state = `${line.text}\0${Boolean(tokens)}\0${mark ?? ""}\0${line.noEnd}`;
    // Coloured a moment ago: it stays so until the colours of the new state are there.
    if (cell.state === state || (!tokens && cell.state?.startsWith(`${line.text}\0true`) && String(cell.mark) === String(mark))) return;
    cell.state = state;
    cell.mark = mark;
    cell.replaceChildren(...codeNodes(line.text.slice(0, LONGEST).replace(/\r$/, ""), tokens, mark));
    if (line.text.length > LONGEST) cell.append(h("span.diff-end", {}, ` … ${line.text.length - LONGEST} more characters`));
    if (line.text.endsWith("\r") && line.kind !== "context") cell.append(h("span.diff-end", { title: "Carriage return (CRLF)" }, "␍"));
    if (line.noEnd) cell.append(h("span.diff-end", { title: "No line end at the end of the file" }, "⊘"));
  }

  /** Each hunk's two sides as blocks of code, with the lines they are of. */
  #blocks() {
    return this.hunks.flatMap(({ lines }) =>
      ["old", "new"].map((side) => {
        const own = lines.filter((line) => line[side] !== null);
        return { side, own, texts: own.map((line) => line.text.replace(/\r$/, "")) };
      }),
    );
  }

  #colours() {
    const colours = new Map();
    for (const { side, own, texts } of this.#blocks()) {
      const known = this.view.highlighter.known(this.path, texts);
      known?.forEach((tokens, i) => {
        if (own[i]) colours.set(own[i], { ...colours.get(own[i]), [side]: tokens });
      });
    }
    return colours;
  }

  async #colourIn() {
    const blocks = this.#blocks().map(({ texts }) => texts);
    if (!(await this.view.highlighter.load(this.path, blocks)) || !this.table) return;
    this.colours = this.#colours();
    // As it was drawn: a new file stands alone, and to ask the view lays the whole page out, line after line.
    const split = this.table.dataset.split === "true";
    for (const row of this.rows.children) if (row.item?.lines) this.#updateLine(row, row.item.lines, split);
  }

  #more() {
    this.rowsShown += ROWS;
    this.draw();
  }

  /** Opens the editor under a line. */
  comment(line, side) {
    this.#edit({ file: this.path, side, line: line[side], code: line.text, text: "" });
  }

  /** Opens the editor on a draft; what was being written in another is kept as a comment. */
  #edit(draft) {
    const open = this.editing;
    if (!open || editorKey(open) !== editorKey(draft)) this.editing = draft;
    if (open !== this.editing) this.view.keep(open);
    this.draw();
    this.rows.querySelector(".diff-editor textarea")?.focus();
  }

  #comment(comment) {
    const edit = () => this.#edit({ ...comment });
    return h(
      "div.diff-comment-box", {},
      h("p.diff-comment-text"),
      h("p.diff-comment-foot", {}, h("span.count", {}, `Line ${comment.line} · goes to the agent with the next follow-up`),
        h("button.button.button-small.button-quiet", { type: "button", onclick: edit }, "Edit"),
        h("button.button.button-small.button-quiet.is-danger", { type: "button", onclick: () => this.view.comments.remove(comment) }, "Remove")),
    );
  }

  #editor(draft) {
    const text = h("textarea.input", { rows: 3, "aria-label": `Comment on line ${draft.line} of ${draft.file}`, placeholder: "What should the agent change here?" });
    text.value = draft.text;
    const close = () => {
      this.editing = null;
      this.draw();
      this.view.focusLine();
    };
    const save = () => {
      this.editing = null;
      this.view.keep(draft);
      this.draw();
      this.view.focusLine();
    };
    text.addEventListener("input", () => (draft.text = text.value));
    text.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) save();
      else if (event.key === "Escape") close();
      else return;
      event.preventDefault();
      event.stopPropagation();
    });
    return h(
      "div.diff-editor", {}, text,
      h("p.diff-comment-foot", {},
        h("button.button.button-small.button-primary", { type: "button", onclick: save }, "Keep comment", h("kbd", { "aria-hidden": "true" }, "Ctrl ⏎")),
        h("button.button.button-small.button-quiet", { type: "button", onclick: close }, "Cancel")),
    );
  }
}

/** The first row may be one wide cell, so the widths of a fixed layout are said here. */
function columns(split) {
  return split ? [h("colgroup", {}, h("col.diff-col-number"), h("col"), h("col.diff-col-number"), h("col"))] : [];
}

/** An editor's row is its draft's own: another draft's would save to another line. */
function editorKey({ id, side, line, code }) {
  return `editor:${id ?? `${side} ${line} ${code}`}`;
}

/** Tells lines apart that are not the same; a long line by its start and length. */
function nameOf(line) {
  if (!line) return "";
  const { kind, text } = line;
  return kind[0] + (text.length > 300 ? `${text.slice(0, 200)}…${text.length}` : text);
}
