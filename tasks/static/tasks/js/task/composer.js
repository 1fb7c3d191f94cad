// What the agent is told next: written while it works, queued, changed and taken back until it begins.

import { api } from "../api.js";
import { busy } from "../components.js";
import { reviewPrompt } from "../diff-parse.js";
import { announce, find, h, icon, reconcile, setText } from "../dom.js";
import { draftOf, keepDraft } from "../drafts.js";
import { showError, toast } from "../toast.js";
import { askToLeave } from "../unsaved.js";
import { isActive } from "./words.js";

export class Composer {
  constructor(page) {
    this.page = page;
    this.attemptId = null;
    this.#build();
  }

  #build() {
    this.field = h("textarea.input.composer-field", { rows: "1", "aria-label": "Follow-up", placeholder: "Ask for a change…" });
    this.attached = h("span.composer-attached", { hidden: true });
    this.hint = h("span.field-hint.grow");
    this.button = h("button.button.button-primary.button-small", { type: "submit" }, icon("send"), h("span", {}, "Send"));
    this.queue = h("div.composer-queue");
    this.form = h(
      "form.composer-form", {},
      h("div.composer-row", {}, this.field, this.button), h("div.composer-foot", {}, this.attached, this.hint),
    );
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.send();
    });
    this.field.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.field.blur();
      if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
      event.preventDefault();
      this.send();
    });
    this.field.addEventListener("input", () => this.#keep(this.attemptId, this.field.value));
    askToLeave(() => [...this.queue.children].some((row) => this.#written(row)));
    find("#composer").append(this.queue, this.form);
  }

  focus() {
    if (!find("#composer").hidden) this.field.focus();
  }

  update() {
    const { attempt, document } = this.page;
    const usable = Boolean(attempt) && attempt.outcome === "open" && this.page.mayAct;
    find("#composer").hidden = !usable;
    if (!usable) return;
    if (this.attemptId !== attempt.id) this.#adopt(attempt.id);
    const runs = document.runs(attempt.id).filter((run) => run.run_reason !== "devserver");
    const waits = runs.some(isActive);
    const agents = runs.filter((run) => run.run_reason === "codingagent");
    const queued = agents.filter((run, i) => i > 0 && run.status === "queued");
    const count = this.page.comments?.size ?? 0;
    this.attached.hidden = !count;
    setText(this.attached, `+ ${count} ${count === 1 ? "comment" : "comments"} on the changes`);
    setText(this.button.lastChild, waits ? "Queue" : "Send");
    setText(this.hint, waits ? "It is sent when the run that goes on has ended." : "");
    this.form.hidden = queued.length > 0;
    for (const row of this.queue.children) if (!queued.some((run) => run.id === row.dataset.key)) this.#rescue(row);
    reconcile(this.queue, queued, {
      keyOf: (run) => run.id,
      make: (run) => this.#makeQueued(run),
      update: (element, run) => this.#updateQueued(element, run),
    });
  }

  #adopt(attemptId) {
    this.attemptId = attemptId;
    this.field.value = draftOf(attemptId);
    this.#size();
  }

  /** What is written to an attempt and not yet sent. */
  #draft(attemptId) {
    return attemptId === this.attemptId ? this.field.value : draftOf(attemptId);
  }

  /** Keeps such words in this browser, and shows them if it is the open attempt. */
  #keep(attemptId, words) {
    keepDraft(attemptId, words);
    if (attemptId !== this.attemptId) return;
    if (this.field.value !== words) this.field.value = words;
    this.#size();
  }

  #putBefore(attemptId, words) {
    this.#keep(attemptId, [words, this.#draft(attemptId)].filter(Boolean).join("\n\n"));
  }

  /** As tall as its words, up to a third of the window. */
  #size() {
    this.field.style.height = "auto";
    this.field.style.height = `${Math.min(this.field.scrollHeight + 2, innerHeight / 3)}px`;
  }

  /** Sends the words and the comments on the changes as the next follow-up. */
  async send() {
    const { page } = this;
    const { attemptId, comments } = page;
    const sent = comments?.all ?? [];
    const words = this.field.value;
    const note = words.trim();
    if (!note && !sent.length) {
      this.field.focus();
      return;
    }
    const prompt = sent.length ? reviewPrompt(sent, note) : note;
    await busy(this.button, async () => {
      try {
        page.document.put("execution_processes", await api.post(`/api/task-attempts/${attemptId}/follow-up`, { prompt }));
        announce("Sent");
        // Meanwhile more may have been written, and another attempt opened.
        const draft = this.#draft(attemptId);
        this.#keep(attemptId, draft.startsWith(words) ? draft.slice(words.length).trimStart() : draft);
        const isOpen = page.attemptId === attemptId;
        (isOpen ? page.comments : comments)?.clear(sent);
        if (isOpen) page.open({ run: null, view: page.narrow || page.view === "conversation" ? page.view : "log" });
      } catch (error) {
        showError(error);
      }
    });
  }

  #makeQueued(run) {
    const text = h("p.composer-prompt");
    const edit = h("button.button.button-small.button-quiet", { type: "button", onclick: () => this.#edit(row, run.id) }, "Edit");
    const back = h("button.button.button-small.button-quiet.is-danger", { type: "button", onclick: () => busy(back, () => this.#withdraw(run.id)) }, "Take back");
    const row = h("div.composer-queued", { dataset: { attempt: run.task_attempt_id } }, h("span.run-state", { dataset: { state: "queued" } }, "Next"), text, h("span.row", {}, edit, back));
    return row;
  }

  #updateQueued(row, run) {
    setText(row.querySelector(".composer-prompt"), run.prompt);
  }

  #edit(row, id) {
    if (row.querySelector("form")) return;
    const run = this.page.document.run(id);
    const field = h("textarea.input", { rows: "4", "aria-label": "The queued follow-up" });
    field.value = run.prompt;
    const save = h("button.button.button-small.button-primary", { type: "submit" }, "Save");
    const cancel = h("button.button.button-small.button-quiet", { type: "button", onclick: () => form.remove() }, "Cancel");
    const form = h("form.composer-edit", {}, field, h("div.row", {}, save, cancel));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      busy(save, async () => {
        try {
          this.page.document.put("execution_processes", await api.patch(`/api/processes/${id}`, { prompt: field.value }));
          form.remove();
        } catch (error) {
          showError(error);
        }
      });
    });
    row.append(form);
    field.focus();
  }

  /** What is being written in the row, where it differs from what is queued. */
  #written(row) {
    const words = row.querySelector("textarea")?.value;
    return words === this.page.document.run(row.dataset.key)?.prompt ? "" : words;
  }

  /** The row of what is queued no more goes; what was being written in it does not. */
  #rescue(row) {
    const written = this.#written(row);
    if (!written) return;
    this.#putBefore(row.dataset.attempt, written);
    toast("Your change to it was not saved: it is kept in the field for the next follow-up.");
  }

  /** Its words come back into the field: taking back is not throwing away. */
  async #withdraw(id) {
    const run = this.page.document.run(id);
    try {
      await api.delete(`/api/processes/${id}`);
      this.#putBefore(run.task_attempt_id, run.prompt);
      if (run.task_attempt_id !== this.attemptId) return;
      this.form.hidden = false;
      this.field.focus();
    } catch (error) {
      showError(error);
    }
  }
}
