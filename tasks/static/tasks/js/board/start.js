// Starting an agent on one task or on many.

import { busy, idle } from "../components.js";
import { announce, find, setText } from "../dom.js";
import { draftOf, keepDraft } from "../drafts.js";
import { shortcut } from "../shortcuts.js";
import { toast } from "../toast.js";
import { preferAgent, rememberAgent } from "./create.js";

export class Start {
  #ids = [];

  constructor(board) {
    this.board = board;
    this.dialog = find("#start-dialog");
    this.form = find("form", this.dialog);
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      busy(find("[type=submit]", this.form), () => this.#start());
    });
    this.form.elements.prompt?.addEventListener("input", ({ target }) => keepDraft(this.#ids[0], target.value));
    this.form.addEventListener("keydown", (event) => this.#key(event));
    const focused = () => document.activeElement?.closest?.(".columns .card")?.dataset.key;
    shortcut(["s"], "Start an agent on the task", "Board", () => this.open([focused()]), { when: focused });
  }

  open(ids) {
    const one = ids.length === 1;
    const task = this.board.task(ids[0]);
    if (one && !task) return; // deleted while its menu was open
    this.#ids = ids;
    if (this.board.executors.length) {
      setText(find("[data-part=task]", this.form), one ? task.title : `${ids.length} tasks`);
      find("[data-part=prompt]", this.form).hidden = !one;
      this.form.elements.prompt.value = one ? draftOf(ids[0]) : "";
      preferAgent(this.form.elements.executor);
      this.#say("");
      idle(find("[type=submit]", this.form));
    }
    this.dialog.showModal();
    this.form.elements.executor?.focus();
  }

  /** Enter starts, from anywhere but the prompt's own lines. */
  #key(event) {
    const writing = event.target.localName === "textarea" && !event.ctrlKey && !event.metaKey;
    if (event.key !== "Enter" || writing || event.target.closest("button")) return;
    event.preventDefault();
    this.form.requestSubmit();
  }

  async #start() {
    const { executor, prompt } = this.form.elements;
    const name = executor.value;
    const ids = this.#ids;
    rememberAgent(name);
    if (ids.length > 1) {
      this.dialog.close("started");
      await this.board.startAll(ids, name);
      return;
    }
    const title = this.board.task(ids[0])?.title;
    const isOpen = () => this.dialog.open && this.#ids === ids;
    try {
      const words = prompt.value;
      await this.board.start(ids[0], name, words);
      if (draftOf(ids[0]) === words) keepDraft(ids[0], "");
      if (isOpen()) this.dialog.close("started");
      announce(`${name} starts.`);
    } catch (error) {
      if (error.status === undefined) throw error;
      if (isOpen()) this.#say(error.message);
      else toast(`“${title}” was not started: ${error.message}`, { error: true });
    }
  }

  #say(words) {
    const line = find(".field-error", this.form);
    line.hidden = !words;
    setText(line, words);
  }
}
