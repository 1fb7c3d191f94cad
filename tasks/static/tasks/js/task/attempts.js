// The list of attempts, and starting another.

import { api } from "../api.js";
import { busy } from "../components.js";
import { asTyped, find, h, icon, reconcile, setText } from "../dom.js";
import { draftOf, keepDraft } from "../drafts.js";
import { storage } from "../storage.js";
import { ago, elapsed, whole } from "../time.js";
import { showError } from "../toast.js";
import { attemptState, isActive } from "./words.js";

export class Attempts {
  constructor(page) {
    this.page = page;
    find("#new-attempt").addEventListener("click", () => this.start());
  }

  update() {
    const { page } = this;
    const attempts = page.document.attempts;
    const button = find("#new-attempt");
    button.hidden = !page.mayStart;
    button.classList.toggle("button-primary", !attempts.length);
    find("#compare").hidden = attempts.length < 2;
    find("#first-start").hidden = attempts.length > 0;
    find("#task").classList.toggle("is-unstarted", !attempts.length);
    setText(find("#tab-log span"), attempts.length ? "Output" : "Start");
    if (!attempts.length) this.#first();
    if (page.document.task) this.follow?.(page.document.task);
    reconcile(find("#attempts"), attempts.map((attempt, i) => ({ attempt, number: i + 1 })).reverse(), {
      keyOf: ({ attempt }) => attempt.id,
      make: ({ attempt }) => this.#make(attempt),
      update: (element, item) => this.#update(element, item),
    });
  }

  #make(attempt) {
    const link = h(
      "a.attempt", { href: `${this.page.urls.page}?attempt=${attempt.id}` },
      h("span.attempt-number"), h("span.attempt-executor.truncate"), h("span.run-state"), h("span.attempt-when.count"),
    );
    link.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      this.page.open({ attempt: attempt.id, run: null, view: this.page.narrow ? "log" : this.page.view });
    });
    return h("li", {}, link);
  }

  #update(element, { attempt, number }) {
    const runs = this.page.document.runs(attempt.id);
    const { state, words } = attemptState(attempt, runs);
    const link = element.firstChild;
    const [label, executor, badge, when] = link.children;
    setText(label, `#${number}`);
    setText(executor, attempt.executor);
    badge.dataset.state = state;
    setText(badge, words);
    const active = runs.find((run) => isActive(run) && run.started_at);
    setText(when, active ? elapsed(active.started_at) : ago(attempt.created_at));
    when.title = whole(attempt.created_at);
    if (attempt.id === this.page.attemptId) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }

  /** No attempt yet: the way to begin stands where its work will be. */
  #first() {
    const panel = find("#first-start");
    if (panel.childElementCount) return;
    if (this.page.mayStart) {
      panel.append(h("div.first-start-box", {}, h("h2", {}, "Let an agent try"), h("p.muted", {}, "It works on a branch and in a folder of its own; your files stay as they are."), this.#form("first")));
      return;
    }
    const why = this.page.state.may_start
      ? "No agent is installed on this machine that you may start. An administrator can add one."
      : "You may look but not start programs: ask an administrator for the permission “May start programs in a worktree”.";
    panel.append(h("div.empty", {}, h("h2", {}, "No attempt yet"), h("p", {}, why)));
  }

  /** Asks for agent, branch and prompt in a dialog. */
  start() {
    if (!this.page.mayStart) return;
    if (!this.page.document.attempts.length) {
      if (this.page.narrow) this.page.open({ view: "log" });
      find("#first-start select")?.focus();
      return;
    }
    const dialog = h("dialog.dialog", { "aria-labelledby": "start-title", onclose: () => dialog.remove() });
    const head = h(
      "div.dialog-head", {}, h("h2", { id: "start-title" }, "New attempt"),
      h("button.button.button-quiet.button-icon", { type: "button", "aria-label": "Close", onclick: () => dialog.close() }, icon("close")),
    );
    dialog.append(head, this.#form("dialog", dialog));
    document.body.append(dialog);
    dialog.showModal();
    dialog.querySelector("select").focus();
  }

  #form(name, dialog = null) {
    const { task, project, attempts } = this.page.document;
    const last = attempts.at(-1);
    const executors = this.page.state.executors;
    const executor = h("select.input", { id: `${name}-executor` }, find("#agents").content.cloneNode(true));
    const remembered = last?.executor ?? storage.getItem("vibe.executor");
    if (executors.includes(remembered)) executor.value = remembered;
    const branch = h("input.input.mono", { id: `${name}-branch`, spellcheck: "false", autocapitalize: "off" });
    branch.value = last?.target_branch ?? project?.target_branch ?? "";
    const prompt = h("textarea.input", { id: `${name}-prompt`, rows: "6" });
    let usual = usualPrompt(task);
    prompt.value = draftOf(task.id) || usual;
    this.follow = (changed) => {
      const untouched = prompt.value === usual;
      usual = usualPrompt(changed);
      if (untouched) prompt.value = usual;
    };
    prompt.addEventListener("input", () => keepDraft(task.id, prompt.value === usual ? "" : prompt.value));
    const hint = h("p.field-hint");
    const problem = h("div", { role: "alert" });
    const suit = () => {
      const isScript = executor.value === "script";
      // A description is no script: it would only fail.
      const [others, own] = isScript ? [usual, ""] : ["", usual];
      if (prompt.value === others) prompt.value = own;
      setText(hint, isScript ? "Run as a shell script in the worktree." : "What the agent is told. It starts as the task's title and description.");
    };
    executor.addEventListener("change", suit);
    suit();
    const button = h("button.button.button-primary", { type: "submit" }, "Start", h("kbd", { "aria-hidden": "true" }, "Ctrl ⏎"));
    const fields = [
      h("div.start-row", {},
        h("div.field", {}, h("label", { for: executor.id }, "Agent"), executor),
        h("div.field.grow", {}, h("label", { for: branch.id }, "Starts from, merges into"), branch)),
      h("div.field", {}, h("label", { for: prompt.id }, "Prompt"), prompt, hint),
      problem,
    ];
    const cancel = h("button.button", { type: "button", onclick: () => dialog.close() }, "Cancel");
    const form = dialog
      ? h("form", {}, h("div.dialog-body", {}, fields), h("div.dialog-foot", {}, cancel, button))
      : h("form.start-form", {}, fields, h("div.row", {}, button));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      busy(button, () => this.#submit({ executor, branch, prompt, problem, dialog }));
    });
    form.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
      event.preventDefault();
      form.requestSubmit();
    });
    return form;
  }

  async #submit({ executor, branch, prompt, problem, dialog }) {
    const { document } = this.page;
    try {
      const attempt = await api.post("/api/task-attempts", {
        task_id: document.taskId, executor: executor.value, prompt: prompt.value,
        ...(branch.value.trim() ? { target_branch: branch.value.trim() } : {}),
      });
      keepDraft(document.taskId, "");
      storage.setItem("vibe.executor", executor.value);
      document.put("task_attempts", attempt);
      this.page.open({ attempt: attempt.id, run: null, view: "log" });
      dialog?.close();
    } catch (error) {
      if (!problem.checkVisibility()) showError(error); // its form was left meanwhile
      else problem.replaceChildren(h("p.notice.notice-red", {}, error.message));
    }
  }
}

const usualPrompt = ({ title, description }) => asTyped(`${title}\n\n${description}`.trim());
