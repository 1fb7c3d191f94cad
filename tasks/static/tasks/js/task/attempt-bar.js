// The open attempt's branch, how it stands to its target, and what ends it: merge, rebase, discard, stop.

import { api } from "../api.js";
import { busy, confirm } from "../components.js";
import { confirmOn, copyText } from "../controls.js";
import { announce, find, findAll, h, icon, setText } from "../dom.js";
import { storage } from "../storage.js";
import { showError, toast } from "../toast.js";
import { endNotice, isActive } from "./words.js";

const NOTICE_ICONS = { "": "info", green: "check" };
const LONG = 2_000;
const LONGEST = 630_000; // A little more than the server gives git.
const STRATEGIES = { merge: "Merge", squash: "Squash and merge", ff: "Fast-forward" };

export class AttemptBar {
  constructor(page) {
    this.page = page;
    this.status = null;
    this.note = null;
    this.refusal = null;
    this.waiting = false;
    this.strategy = storage.getItem("vibe.strategy") ?? "merge";
    this.#listen();
  }

  #listen() {
    const press = (selector, act) => find(selector).addEventListener("click", (event) => busy(event.currentTarget, () => act(event.currentTarget)).catch(showError));
    press("#stop", () => this.stop());
    press("#merge", () => this.merge());
    press("#rebase", () => this.#post("rebase", "Rebased"));
    press("#discard", () => this.discard());
    press("#devserver", () => this.#devserver());
    press("#branch", (button) => copyText(this.page.attempt.branch).then(() => confirmCopied(button)));
    press("#copy-worktree", () => copyText(this.page.attempt.worktree ?? "").then(() => toast("Copied the worktree's path")));
    press("#copy-link", () => copyText(location.href).then(() => toast("Copied a link")));
    for (const item of findAll("[data-strategy]")) {
      item.addEventListener("click", () => {
        this.strategy = item.dataset.strategy;
        storage.setItem("vibe.strategy", this.strategy);
        find("#merge-menu").open = false;
        this.update();
      });
    }
  }

  /** Another attempt was opened: what is known of the one before is not true of it. */
  reset() {
    this.status = null;
    this.refusal = null;
    this.waiting = false;
    this.note = null;
  }

  /** From the diff stream, whenever it changes. */
  setStatus(status) {
    this.status = status;
    this.update();
  }

  /** What the diff stream has to say besides the diff; an empty message takes it back. */
  setNote({ level, message }) {
    this.note = message ? { tone: level === "error" ? "red" : "amber", message } : null;
    this.update();
  }

  /** After an operation: the stream tells it too, but where git takes long only after a while. */
  async #load() {
    const { attemptId, attempt } = this.page;
    const { status: before } = this;
    if (attempt?.outcome !== "open" || !attempt.worktree) return;
    const status = await api.get(`/api/task-attempts/${attemptId}/status`).catch(() => null);
    // What the stream has said meanwhile is newer.
    if (status && attemptId === this.page.attemptId && this.status === before) this.setStatus(status);
  }

  update() {
    const { page } = this;
    const { attempt } = page;
    find("#attempt-bar").hidden = !attempt;
    if (!attempt) {
      find("#attempt-notices").replaceChildren();
      return;
    }
    const runs = page.document.runs(attempt.id);
    const active = runs.filter((run) => isActive(run) && run.run_reason !== "devserver");
    const devserver = runs.find((run) => isActive(run) && run.run_reason === "devserver");
    const open = attempt.outcome === "open";
    setText(find("#branch"), attempt.branch);
    setText(find("#target"), attempt.target_branch);
    this.#distance(open);
    find("#stop").hidden = !page.mayAct || !(active.length || devserver);
    const nothing = this.status && !this.status.ahead && !this.status.dirty && !this.status.problem;
    find("#merge-group").hidden = !open || !page.mayAct || active.length > 0 || nothing;
    setText(find("#merge span"), STRATEGIES[this.strategy] ?? "Merge");
    for (const item of findAll("[data-strategy]")) item.setAttribute("aria-checked", String(item.dataset.strategy === this.strategy));
    find("#rebase").hidden = find("#discard").hidden = !open || !page.mayAct;
    find("#devserver").hidden = !open || !page.mayAct || !page.document.project?.dev_script || Boolean(devserver);
    find("#copy-worktree").hidden = !attempt.worktree;
    this.#notices(attempt, runs);
  }

  #distance(open) {
    const { ahead = 0, behind = 0, dirty = false } = this.status ?? {};
    const parts = [];
    if (open && this.status) {
      if (ahead) parts.push(h("span", { title: `${ahead} commits ahead of the target` }, `${ahead} ahead`));
      if (behind) parts.push(h("span.is-behind", { title: `${behind} commits behind the target` }, `${behind} behind`));
      if (dirty) parts.push(h("span.is-dirty", { title: "Changes that are not committed" }, "uncommitted"));
      if (!parts.length && !this.status.problem) parts.push(h("span", {}, "up to date"));
    }
    const distance = find("#distance");
    const text = parts.map((part) => part.textContent).join(" ");
    if (distance.dataset.shown === text) return;
    distance.dataset.shown = text;
    distance.replaceChildren(...parts);
  }

  #notices(attempt, runs) {
    const notices = [];
    const add = (tone, ...content) => notices.push({ tone, content });
    if (attempt.outcome === "merged") add("green", `Merged into ${attempt.target_branch}${attempt.merge_commit ? ` as ${attempt.merge_commit.slice(0, 10)}` : ""}.`);
    if (attempt.outcome === "discarded") {
      add("", attempt.kept_ref ? `Discarded. Its work is kept for 30 days. To get it back: git branch rescued ${attempt.kept_ref}` : "Discarded.");
    }
    if (this.waiting) {
      add("", "Git is still at work. If it is a program that this repository is configured with (a filter, a merge driver, git-lfs), it is stopped after ten minutes, and then nothing has changed.");
    }
    if (this.refusal) add("red", this.refusal.text, ...files(this.refusal.files));
    else if (attempt.outcome === "open" && this.status?.conflicts?.length) {
      add("amber", `A merge into ${attempt.target_branch} would conflict in:`, ...files(this.status.conflicts));
    }
    const problem = attempt.outcome === "open" && this.status?.problem;
    if (problem && problem !== this.note?.message) add("amber", problem);
    const run = this.page.run;
    const told = run && this.page.view === "log" ? endNotice(run, runs) : null;
    if (told) add(told.tone, told.text, ...(told.look ? [" ", this.#lookAt(told.look)] : []));
    if (this.note && this.page.view !== "changes") add(this.note.tone, this.note.message); // the diff itself says it too
    const place = find("#attempt-notices");
    const text = JSON.stringify(notices.map(({ tone, content }) => [tone, content.map((one) => one.textContent ?? one)]));
    if (place.dataset.shown === text) return;
    place.dataset.shown = text;
    place.replaceChildren(...notices.map(({ tone, content }) => h(`div.notice${tone ? `.notice-${tone}` : ""}`, {}, icon(NOTICE_ICONS[tone] ?? "warning"), h("div.grow", {}, content))));
  }

  #lookAt(run) {
    return h("button.button.button-small", { type: "button", onclick: () => this.page.openRun(run.id) }, "Show its output");
  }

  async stop() {
    const { document, attemptId, run } = this.page;
    const runs = document.runs(attemptId).filter(isActive);
    const chosen = runs.includes(run) ? run : (runs.find((one) => one.run_reason !== "devserver") ?? runs[0]);
    if (!chosen || !this.page.mayAct) return;
    try {
      document.put("execution_processes", await api.post(`/api/processes/${chosen.id}/stop`, {}, { timeout: 60_000 }));
      announce("Stopping");
    } catch (error) {
      showError(error);
    }
  }

  async merge() {
    if (find("#merge-group").hidden) return;
    const { attempt } = this.page;
    const { strategy } = this;
    const yes = await confirm(`${STRATEGIES[strategy]} into ${attempt.target_branch}?`, {
      text: `${changed(this.page.changes?.files)} of ${attempt.branch} into ${attempt.target_branch}, and the task is done.`,
      yes: STRATEGIES[strategy],
    });
    if (yes) await this.#post("merge", `Merged into ${attempt.target_branch}`, { strategy }, attempt.id);
  }

  async discard() {
    const { attemptId } = this.page;
    const yes = await confirm("Discard this attempt?", {
      text: "Its worktree and its branch are removed. Commits and uncommitted work are kept under a ref of the repository for 30 days.",
      yes: "Discard", danger: true,
    });
    if (yes) await this.#post("discard", "Discarded", {}, attemptId);
  }

  async #post(action, done, body = {}, attemptId = this.page.attemptId) {
    const isOpen = () => attemptId === this.page.attemptId;
    const wait = (waiting) => {
      if (isOpen()) this.waiting = waiting;
      this.update();
    };
    const late = setTimeout(wait, LONG, true);
    try {
      this.page.document.put("task_attempts", await api.post(`/api/task-attempts/${attemptId}/${action}`, body, { timeout: LONGEST }));
      toast(done);
      if (!isOpen()) return;
      this.refusal = null;
      this.#load();
    } catch (error) {
      if (error.status !== 409 || !isOpen()) {
        showError(error);
        return;
      }
      this.refusal = { text: error.message, files: error.body?.files ?? [] };
    } finally {
      clearTimeout(late);
      wait(false);
    }
  }

  async #devserver() {
    try {
      const run = await api.post(`/api/task-attempts/${this.page.attemptId}/devserver`);
      this.page.document.put("execution_processes", run);
      this.page.open({ run: run.id, view: "log" });
    } catch (error) {
      showError(error);
    }
  }
}

function changed(count) {
  if (count === 1) return "One changed file goes out";
  return count === undefined ? "All changes go out" : `${count.toLocaleString()} changed files go out`;
}

function files(paths) {
  return paths.length ? [h("ul.notice-files", {}, paths.map((path) => h("li.mono", {}, path)))] : [];
}

function confirmCopied(button) {
  confirmOn(button, "Copied");
}
