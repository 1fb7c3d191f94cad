// The task itself: status, title, labels, description; edited in place without losing another's edit.

import { ApiError, api } from "../api.js";
import { busy } from "../components.js";
import { announce, asTyped, find, findAll, h, hue, setText } from "../dom.js";
import { showError } from "../toast.js";
import { askToLeave } from "../unsaved.js";

const AGAIN = 2_000;
const plain = (error) => h("p.notice.notice-red", {}, error.message);

export class TaskHead {
  constructor(page) {
    this.page = page;
    this.shown = page.document.task.description;
    this.editor = null;
    this.saving = false;
    this.named = page.document.task.title;
    find("#status").addEventListener("change", (event) => this.#setStatus(event.target));
    askToLeave(() => this.#dirty());
    find("#edit-task").addEventListener("click", () => this.edit());
  }

  update() {
    const { task } = this.page.document;
    if (!task) return;
    for (const title of findAll("[data-task-title]")) setText(title, task.title);
    // Only when it changes: a count of what ended meanwhile may stand before it.
    if (this.named !== task.title) document.title = `${task.title} · Vibe`;
    this.named = task.title;
    if (!this.saving) find("#status").value = task.status;
    find("#status-ring").dataset.status = task.status;
    find("#no-description").hidden = Boolean(task.description) || Boolean(this.editor);
    this.#labels(task.labels ?? []);
    if (task.description !== this.shown) this.#describe(task.description);
  }

  #labels(labels) {
    const list = find("#labels");
    const text = labels.join("\0");
    if (list.dataset.shown === text) return;
    list.dataset.shown = text;
    list.replaceChildren(...labels.map((label) => h("span.label-chip", { dataset: { hue: hue(label) } }, h("span", {}, label))));
  }

  /** The server turns Markdown into HTML and cleans it; what comes is inserted as it is. */
  async #describe(description) {
    this.shown = description;
    const answer = await fetch(this.page.urls.description).catch(() => null);
    const html = answer?.ok ? await answer.text().catch(() => null) : null;
    if (this.shown !== description) return;
    if (html === null) {
      this.shown = null; // the next change asks again; where the server was only away, a moment later
      if (!answer || answer.status >= 500) setTimeout(() => this.update(), AGAIN);
      return;
    }
    find("#description").replaceChildren(...new DOMParser().parseFromString(html, "text/html").body.childNodes);
  }

  async #setStatus(select) {
    const { task } = this.page.document;
    const status = select.value;
    const words = select.selectedOptions[0].text;
    this.saving = true;
    try {
      this.page.document.put("tasks", await api.patch(`/api/tasks/${task.id}`, { status, expected: { status: task.status } }));
      announce(`Status: ${words}`);
    } catch (error) {
      showError(error);
    }
    this.saving = false;
    this.update();
  }

  edit() {
    if (this.editor) {
      this.editor.title.focus();
      return;
    }
    const { task } = this.page.document;
    const before = { title: task.title, description: task.description };
    const title = h("textarea.input.task-title-input", { "aria-label": "Title", rows: "2", maxlength: "500", required: true });
    const description = h("textarea.input", { "aria-label": "Description (Markdown)", rows: "10", placeholder: "What is to be done? Markdown works." });
    title.value = before.title;
    description.value = before.description;
    const notice = h("div", { role: "alert" });
    const save = h("button.button.button-primary.button-small", { type: "submit" }, "Save", h("kbd", { "aria-hidden": "true" }, "Ctrl ⏎"));
    const cancel = h("button.button.button-small.button-quiet", { type: "button", onclick: () => this.#close() }, "Cancel");
    const form = h("form.task-editor", {}, title, description, notice, h("div.row", {}, save, cancel));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      busy(save, () => this.#save(form, before, { title: title.value.trim().replace(/\s*\n\s*/g, " "), description: description.value }, notice));
    });
    form.addEventListener("keydown", (event) => {
      const inTitle = event.target === title && event.key === "Enter";
      if (inTitle || (event.key === "Enter" && (event.ctrlKey || event.metaKey))) form.requestSubmit();
      else if (event.key === "Escape" && this.#dirty()) notice.replaceChildren(h("p.notice.notice-amber", {}, "You changed this task. Save it, or press Cancel to drop your changes."));
      else if (event.key === "Escape") this.#close();
      else return;
      event.preventDefault();
      event.stopPropagation();
    });
    this.editor = { form, title, description, began: [title.value, description.value] };
    find(".task-head").after(form);
    for (const element of [find("#title"), find("#description"), find("#no-description")]) element.hidden = true;
    title.focus();
  }

  #dirty() {
    return Boolean(this.editor) && [this.editor.title, this.editor.description].some(({ value }, i) => value !== this.editor.began[i]);
  }

  async #save(form, before, after, notice) {
    const changed = Object.fromEntries(Object.entries(after).filter(([name, value]) => value !== asTyped(before[name])));
    if (!Object.keys(changed).length) {
      this.#close();
      return;
    }
    const expected = Object.fromEntries(Object.keys(changed).map((name) => [name, before[name]]));
    try {
      this.page.document.put("tasks", await api.patch(`/api/tasks/${this.page.document.taskId}`, { ...changed, expected }));
      if (this.editor?.form === form) this.#close();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (this.editor?.form === form) notice.replaceChildren(error.status === 409 ? await this.#conflict(form, before).catch(plain) : plain(error));
      else showError(error);
    }
  }

  /** Somebody else changed it meanwhile: theirs is shown beside, and nothing of either is lost unasked. */
  async #conflict(form, before) {
    // Asked for: the stream may not have brought it yet.
    const task = await api.get(`/api/tasks/${this.page.document.taskId}`);
    const anyway = h("button.button.button-small", { type: "button" }, "Save mine over it");
    anyway.addEventListener("click", () => {
      for (const name of ["title", "description"]) {
        if (this.editor[name].value === asTyped(before[name])) this.editor[name].value = task[name];
        before[name] = task[name];
      }
      form.requestSubmit();
    });
    return h(
      "div.notice.notice-amber", {},
      h("div.stack", {}, h("strong", {}, "Somebody changed this while you wrote. It now says:"), h("p", {}, task.title), h("pre", {}, task.description), anyway),
    );
  }

  #close() {
    this.editor?.form.remove();
    this.editor = null;
    for (const element of [find("#title"), find("#description")]) element.hidden = false;
    this.update();
    find("#edit-task").focus();
  }
}
