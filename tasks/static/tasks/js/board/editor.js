// The editor of a task. Somebody else's edit of the same field, while it is open, is shown beside one's own.

import { api } from "../api.js";
import { busy, idle } from "../components.js";
import { asTyped, find, findAll, h, setText } from "../dom.js";
import { toast } from "../toast.js";
import { askToLeave } from "../unsaved.js";
import { STATUS_WORDS } from "./model.js";
import { removeTasks } from "./selection.js";

const FIELDS = ["title", "description", "status", "labels"];

/** Text of a field as the form shows it, and back. */
export const labelsOf = (text) => [...new Set(text.split(",").map((label) => label.trim()).filter(Boolean))];
const toText = (field, value) => {
  if (field === "description") return asTyped(value);
  return (field === "labels" ? value.join(", ") : value).replace(/[\r\n]/g, "");
};
const fromText = (field, text) => (field === "labels" ? labelsOf(text) : text);

export class Editor {
  #id = null;
  #base = {};

  constructor(board) {
    this.board = board;
    this.dialog = find("#edit-dialog");
    this.form = find("form", this.dialog);
    this.form.addEventListener("submit", (event) => this.#submit(event));
    this.form.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.form.requestSubmit();
    });
    this.dialog.addEventListener("cancel", (event) => this.#dirty().length && !this.#mayLose() && event.preventDefault());
    // The event comes after the dialog has closed: it may be open again by now, for another task.
    this.dialog.addEventListener("close", () => this.dialog.open || (this.#id = null));
    askToLeave(() => this.dialog.open && this.#dirty().length > 0);
    find("[data-do=edit-delete]", this.dialog).addEventListener("click", () => this.#remove());
    board.addEventListener("change", () => this.#id && this.#follow());
  }

  open(id) {
    const task = this.board.task(id);
    if (!task) return;
    this.#id = id;
    this.#base = pick(task);
    this.asked = 0;
    for (const field of FIELDS) this.#input(field).value = toText(field, task[field]);
    for (const note of findAll(".conflict", this.dialog)) note.remove();
    find("[data-part=gone]", this.dialog).hidden = true;
    find("[data-part=open]", this.dialog).href = `/tasks/${id}/`;
    idle(find("[type=submit]", this.form));
    this.#say("");
    this.dialog.showModal();
    const title = this.#input("title");
    title.focus();
    title.setSelectionRange(title.value.length, title.value.length);
  }

  #input(field) {
    return this.form.elements[field];
  }

  /** The fields in which the form differs from what the edit began with. */
  #dirty() {
    return FIELDS.filter((field) => this.#input(field).value !== toText(field, this.#base[field]));
  }

  #mayLose() {
    const now = Date.now();
    const again = now - this.asked < 4_000;
    this.asked = now;
    if (!again) this.#say("You changed this task. Save it, or press Cancel once more to drop your changes.");
    return again;
  }

  /** Somebody changed the task: take what one has not touched oneself, and show the rest. */
  #follow() {
    const task = this.board.task(this.#id);
    find("[data-part=gone]", this.dialog).hidden = Boolean(task);
    if (!task) return;
    for (const field of FIELDS) {
      const theirs = toText(field, task[field]);
      const base = toText(field, this.#base[field]);
      const input = this.#input(field);
      if (theirs === base) this.#note(field)?.remove();
      else if (input.value === base || input.value === theirs) this.#take(field, task[field]);
      else this.#conflict(field, task[field]);
    }
  }

  #take(field, value) {
    const input = this.#input(field);
    this.#base[field] = value;
    if (input.value !== toText(field, value)) input.value = toText(field, value);
    this.#note(field)?.remove();
  }

  #note(field) {
    return find(`.conflict[data-of="${field}"]`, this.dialog);
  }

  #conflict(field, value) {
    const shown = field === "status" ? STATUS_WORDS[value] : toText(field, value) || "(empty)";
    const note = this.#note(field);
    if (note?.dataset.value === shown) return;
    note?.remove();
    const mine = { type: "button", onclick: () => ((this.#base[field] = value), this.#note(field).remove(), this.#input(field).focus()) };
    const theirs = { type: "button", onclick: () => (this.#take(field, value), this.#input(field).focus()) };
    const element = h(
      "div.conflict",
      { role: "alert", dataset: { of: field, value: shown } },
      h("strong", {}, "Somebody else changed this while you were editing. It now is:"),
      h("pre", { tabindex: "0" }, shown),
      h("div.row", {}, h("button.button.button-small", mine, "Keep mine"), h("button.button.button-small", theirs, "Take theirs")),
    );
    find(`[data-field="${field}"]`, this.dialog).append(element);
  }

  #submit(event) {
    event.preventDefault();
    busy(find("[type=submit]", this.form), () => this.#save());
  }

  async #save() {
    const changed = this.#dirty();
    if (find(".conflict", this.dialog)) return this.#say("Choose first whether to keep yours or take theirs.");
    if (!this.#input("title").value.trim()) return this.#say("A task needs a title.");
    if (!changed.length) return this.dialog.close("saved");
    const fields = Object.fromEntries(changed.map((field) => [field, fromText(field, this.#input(field).value)]));
    const expected = Object.fromEntries(changed.map((field) => [field, this.#base[field]]));
    const id = this.#id;
    const base = this.#base;
    const isOpen = () => this.dialog.open && this.#base === base;
    const written = this.#written();
    try {
      await this.board.change(id, fields, expected);
      Object.assign(base, fields);
      if (!isOpen()) return undefined;
      if (this.#written() === written) return this.dialog.close("saved");
      for (const field of changed) this.#note(field)?.remove();
      this.#say("Saved, but for what you wrote since.");
    } catch (error) {
      if (!isOpen()) {
        toast(`“${base.title}” was not saved: ${error.message}`, { error: true });
        return undefined;
      }
      // Where it can't be asked for, the stream will bring it.
      if (error.status === 409) await this.#reload(id).catch(() => null);
      this.#say(error.unreachable ? `${error.message} Your words are still here; save again when the line is back.` : error.message);
    }
    return undefined;
  }

  #written() {
    return JSON.stringify(FIELDS.map((field) => this.#input(field).value));
  }

  /** The server knows of an edit that the stream has not brought yet. */
  async #reload(id) {
    const task = await api.get(`/api/tasks/${id}`);
    if (id !== this.#id) return;
    for (const field of FIELDS) {
      if (toText(field, task[field]) !== toText(field, this.#base[field])) this.#conflict(field, task[field]);
    }
  }

  #say(words) {
    const line = find(".dialog-body > .field-error", this.dialog);
    line.hidden = !words;
    setText(line, words);
  }

  async #remove() {
    const id = this.#id;
    this.dialog.close("deleted");
    await removeTasks(this.board, [id]);
  }
}

const pick = (task) => Object.fromEntries(FIELDS.map((field) => [field, task[field]]));
