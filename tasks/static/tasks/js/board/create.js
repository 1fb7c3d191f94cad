// Writing a new task. What was typed is kept in this browser until the task is made.

import { busy } from "../components.js";
import { announce, find, setText } from "../dom.js";
import { draftOf, keepDraft } from "../drafts.js";
import { shortcut } from "../shortcuts.js";
import { storage } from "../storage.js";
import { toast } from "../toast.js";
import { labelsOf } from "./editor.js";

const KEPT = ["title", "description", "labels"];
const AGENT = "vibe.executor";

export class Create {
  constructor(board, { onCreated }) {
    this.board = board;
    this.onCreated = onCreated;
    this.dialog = find("#create-dialog");
    this.form = find("form", this.dialog);
    this.form.addEventListener("input", () => this.#keep());
    this.form.addEventListener("submit", (event) => this.#submit(event, false));
    this.form.addEventListener("keydown", (event) => this.#key(event));
    find("[data-do=create-start]", this.dialog)?.addEventListener("click", (event) => this.#submit(event, true));
    shortcut(["c"], "New task", "Board", () => this.open());
  }

  open(status = "todo") {
    this.#recall();
    this.form.elements.status.value = status;
    preferAgent(this.form.elements.executor);
    this.#say("");
    this.dialog.showModal();
    this.form.elements.title.focus();
  }

  #key(event) {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    this.#submit(event, event.shiftKey && this.board.executors.length > 0);
  }

  #submit(event, start) {
    event.preventDefault();
    busy(find("[type=submit]", this.form), () => this.#save(start));
  }

  async #save(start) {
    const { title, description, status, labels, executor, another } = this.form.elements;
    if (!title.value.trim()) {
      this.#say("A task needs a title.");
      return title.focus();
    }
    const sent = this.#words();
    const agent = executor?.value;
    const fields = { title: title.value.trim(), description: description.value, status: status.value, labels: labelsOf(labels.value) };
    try {
      const task = await this.board.create(fields);
      this.#forget(sent);
      if (another.checked) title.focus();
      else this.dialog.close("created");
      this.onCreated(task.id);
      announce(`Created ${task.title}.`);
      if (start) await this.#start(task, agent);
    } catch (error) {
      if (error.status === undefined) throw error;
      if (!this.dialog.open) toast(`“${fields.title}” was not created: ${error.message} Your words are kept.`, { error: true });
      this.#say(error.unreachable ? `${error.message} Your words are kept here.` : error.message);
    }
    return undefined;
  }

  async #start(task, executor) {
    rememberAgent(executor);
    try {
      await this.board.start(task.id, executor);
    } catch (error) {
      if (error.status === undefined) throw error;
      toast(`The task was created, but ${executor} did not start: ${error.message}`, { error: true });
    }
  }

  #say(words) {
    const line = find(".field-error", this.form);
    line.hidden = !words;
    setText(line, words);
  }

  #words() {
    return Object.fromEntries(KEPT.map((name) => [name, this.form.elements[name].value]));
  }

  #keep() {
    const words = this.#words();
    keepDraft(this.board.project, Object.values(words).some(Boolean) ? JSON.stringify(words) : "");
  }

  #recall() {
    const words = JSON.parse(draftOf(this.board.project) || "{}");
    for (const name of KEPT) this.form.elements[name].value = words[name] ?? "";
  }

  /** Empties the fields of what was sent; what was written since stays. */
  #forget(sent) {
    for (const name of KEPT) if (this.form.elements[name].value === sent[name]) this.form.elements[name].value = "";
    this.#keep();
  }
}

/** Chooses the agent that was used last in this browser. */
export function preferAgent(select) {
  const last = storage.getItem(AGENT);
  if (select && [...select.options].some((option) => option.value === last)) select.value = last;
}

export function rememberAgent(name) {
  storage.setItem(AGENT, name);
}
