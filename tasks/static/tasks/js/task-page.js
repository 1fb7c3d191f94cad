// The page of a task. What is open (attempt, run, view) is in its address; each part draws itself from the records.

import { ConversationView } from "./conversation-view.js";
import { DiffView } from "./diff-view.js";
import { announce, find, findAll, setText } from "./dom.js";
import { watchLine } from "./line-status.js";
import { LogView } from "./log-view.js";
import { fileOfHash } from "./places.js";
import { shortcut } from "./shortcuts.js";
import { AttemptBar } from "./task/attempt-bar.js";
import { Attempts } from "./task/attempts.js";
import { Composer } from "./task/composer.js";
import { TaskDocument } from "./task/document.js";
import { tellOfEnds } from "./task/ends.js";
import { TaskHead } from "./task/head.js";
import { History } from "./task/history.js";
import { Runs } from "./task/runs.js";
import { isActive, runName, stateName } from "./task/words.js";

const VIEWS = ["task", "log", "conversation", "changes", "history"];
const NARROW = matchMedia("(max-width: 900px)");
const TICK = 1_000;

class TaskPage {
  constructor(state) {
    this.state = state;
    this.urls = state.urls;
    this.document = new TaskDocument(state);
    this.#readAddress();
    this.head = new TaskHead(this);
    this.attempts = new Attempts(this);
    this.bar = new AttemptBar(this);
    this.runs = new Runs(this);
    this.composer = new Composer(this);
    this.history = new History(this);
    this.#listen();
    this.#shortcuts();
    tellOfEnds(this.document);
    this.document.start();
    watchLine(this.document.manager);
    this.update();
  }

  get narrow() {
    return NARROW.matches;
  }

  get attempt() {
    return this.document.attempt(this.attemptId);
  }

  get run() {
    return this.document.run(this.runId);
  }

  /** May start other programs. */
  get mayStart() {
    return this.state.may_start && this.state.executors.length > 0;
  }

  /** May stop, follow up, merge. */
  get mayAct() {
    return this.state.may_start;
  }

  get comments() {
    return this.diff?.comments ?? null;
  }

  #readAddress() {
    const query = new URLSearchParams(location.search);
    this.attemptId = query.get("attempt");
    this.chosenRun = query.get("run");
    if (this.chosenRun && !this.attemptId) this.attemptId = this.document.run(this.chosenRun)?.task_attempt_id ?? null;
    this.view = VIEWS.includes(query.get("view")) ? query.get("view") : null;
    if (!this.view && fileOfHash(location.hash)) this.view = "changes";
    if (!this.view && location.hash.startsWith("#L")) this.view = "log";
    this.#settle();
    this.view ??= this.#bestView();
  }

  /** Fills in what the address leaves open or names wrongly. */
  #settle() {
    if (!this.attempt) this.attemptId = this.document.attempts.at(-1)?.id ?? null;
    const runs = this.document.runs(this.attemptId);
    if (!runs.some((run) => run.id === this.chosenRun)) this.chosenRun = null;
    this.runId = this.chosenRun ?? latest(runs)?.id ?? null;
    if (this.view === "task" && !this.narrow) this.view = "log";
    if (this.view === "conversation" && this.attempt && !this.#converses()) this.view = "log";
  }

  #bestView() {
    if (!this.attempt) return this.narrow ? "task" : "log";
    const runs = this.document.runs(this.attemptId);
    const reviewed = runs.length > 0 && !runs.some(isActive) && latest(runs)?.status === "completed";
    if (reviewed && this.attempt.outcome === "open") return "changes";
    return this.#converses() ? "conversation" : "log"; // the output itself would be the records that it is told in
  }

  #converses() {
    return this.state.conversational.includes(this.attempt?.executor);
  }

  /** Opens an attempt, a run (null: the latest, and each that follows) or a view; what is left out stays. */
  open({ attempt = this.attemptId, run = attempt === this.attemptId ? this.chosenRun : null, view = this.view }) {
    if (attempt !== this.attemptId || run !== this.chosenRun) history.replaceState(null, "", location.pathname + location.search);
    Object.assign(this, { attemptId: attempt, chosenRun: run, view });
    this.#settle();
    this.#writeAddress();
    this.update();
  }

  openRun(id) {
    const isLatest = latest(this.document.runs(this.attemptId))?.id === id;
    this.open({ run: isLatest ? null : id, view: this.view === "conversation" ? "conversation" : "log" });
  }

  #writeAddress() {
    const query = new URLSearchParams();
    if (this.attemptId && this.attemptId !== this.document.attempts.at(-1)?.id) query.set("attempt", this.attemptId);
    if (this.chosenRun) query.set("run", this.chosenRun);
    query.set("view", this.view);
    history.replaceState(null, "", `${location.pathname}?${query}${location.hash}`);
  }

  #listen() {
    this.document.addEventListener("change", () => {
      this.update();
      this.history.update(true);
    });
    for (const tab of findAll("[data-tab]")) tab.addEventListener("click", () => this.open({ view: tab.dataset.tab }));
    find("#tabs").addEventListener("keydown", (event) => this.#walkTabs(event));
    NARROW.addEventListener("change", () => this.open({}));
    setInterval(() => document.visibilityState === "visible" && this.document.task && this.#tick(), TICK);
  }

  #tick() {
    this.attempts.update();
    this.runs.update();
  }

  #walkTabs(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const tabs = findAll("[data-tab]").filter((tab) => tab.offsetParent);
    const next = tabs[(tabs.indexOf(document.activeElement) + step + tabs.length) % tabs.length];
    next.focus();
    next.click();
  }

  /** Draws the page anew from the records and from what is open. Cheap where nothing changed. */
  update() {
    if (!this.document.task) {
      this.#gone();
      return;
    }
    const before = { attempt: this.shownAttempt, run: this.shownRun };
    this.#settle();
    this.head.update();
    this.attempts.update();
    if (before.attempt !== this.attemptId) this.#openAttempt();
    this.bar.update();
    this.runs.update();
    this.composer.update();
    this.#showView();
    this.history.update();
    this.#tellEnd();
  }

  #openAttempt() {
    this.shownAttempt = this.attemptId;
    this.diff?.destroy();
    this.diff = null;
    this.changes = null;
    this.unwatchDiff?.();
    setText(find("#change-counts"), "");
    if (!this.attempt) return;
    this.bar.reset();
    const host = find("#panel-changes");
    host.dataset.highlight = find("#task").dataset.highlight;
    this.diff = new DiffView(host, { attemptId: this.attemptId, comments: this.mayAct && this.attempt.outcome === "open" });
    this.unwatchDiff = watchLine(this.diff.stream.manager);
    this.diff.addEventListener("counts", ({ detail }) => this.#counted(detail));
    this.diff.addEventListener("send", () => this.composer.send());
    this.diff.comments?.addEventListener("change", () => this.composer.update());
    this.diff.stream.addEventListener("status", ({ detail }) => this.bar.setStatus(detail));
    this.diff.stream.addEventListener("note", ({ detail }) => this.bar.setNote(detail));
  }

  #counted(counts) {
    this.changes = counts;
    setText(find("#change-counts"), counts.files ? String(counts.files) : "");
    find("#tab-changes").title = `${counts.files} files, ${counts.additions} lines added, ${counts.deletions} deleted`;
  }

  #showView() {
    const { view } = this;
    const main = find("#task");
    main.dataset.view = view;
    find("#tab-conversation").hidden = !this.#converses();
    for (const tab of findAll("[data-tab]")) {
      const selected = tab.dataset.tab === view;
      tab.setAttribute("aria-selected", String(selected));
      tab.tabIndex = selected ? 0 : -1;
      const panel = document.getElementById(tab.getAttribute("aria-controls"));
      if (panel.id !== "task-side") panel.hidden = !selected || (!this.attempt && view !== "history");
    }
    this.#showLog();
    this.#showConversation();
  }

  #showLog() {
    const { run } = this;
    if (this.log && this.log.processId !== run?.id) {
      this.log.destroy();
      this.log = null;
    }
    if (!run || this.view !== "log") return;
    const state = { ended: !isActive(run), queued: run.status === "queued" };
    if (this.log) this.log.setState(state);
    else this.log = new LogView(find("#log"), { processId: run.id, ...state, watch: watchLine });
  }

  #showConversation() {
    const { run } = this;
    const wanted = this.view === "conversation" ? run?.id : null;
    if (this.talk && this.talk.processId !== run?.id) {
      this.talk.view.destroy();
      this.talk = null;
    }
    if (wanted && !this.talk) {
      this.talk = { processId: wanted, view: new ConversationView(find("#panel-conversation"), { processId: wanted, watch: watchLine }) };
    }
  }

  /** Says once, to who cannot see it, how the run that was open ended. */
  #tellEnd() {
    const { run } = this;
    if (this.told?.id === run?.id && this.told?.status !== run?.status && run && !isActive(run)) {
      announce(`${runName(run, this.document.runs(this.attemptId))}: ${stateName(run.status)}`);
    }
    this.told = run ? { id: run.id, status: run.status } : null;
  }

  #gone() {
    if (this.isGone) return;
    this.isGone = true;
    this.document.manager.close();
    const notice = document.createElement("p");
    notice.className = "notice notice-amber";
    notice.textContent = "This task was deleted, or you may no longer see it. ";
    const link = Object.assign(document.createElement("a"), { href: this.urls.board, textContent: "Back to the board" });
    notice.append(link);
    find("#task-notices").replaceChildren(notice);
    for (const control of findAll("#task button, #task select, #task textarea")) control.disabled = true;
  }

  #shortcuts() {
    const group = "Task";
    shortcut(["s"], "Start another attempt", group, () => this.attempts.start());
    shortcut(["x"], "Stop the run", group, () => (find("#stop").hidden ? false : find("#stop").click()));
    shortcut(["f"], "Write a follow-up", group, () => this.composer.focus());
    shortcut(["m"], "Merge", group, () => (find("#merge-group").hidden ? false : find("#merge").click()));
    shortcut(["e"], "Edit title and description", group, () => this.head.edit());
    shortcut(["b"], "Back to the board", group, () => location.assign(this.urls.board));
    shortcut(["1"], "Output", "What is shown", () => this.open({ view: "log" }));
    shortcut(["2"], "Changes", "What is shown", () => this.open({ view: "changes" }));
    shortcut(["3"], "Conversation, where the agent has one", "What is shown", () => this.open({ view: "conversation" }));
    shortcut(["4"], "History", "What is shown", () => this.open({ view: "history" }));
    const inLog = { when: () => this.view === "log" && Boolean(this.log) };
    shortcut(["/"], "Search the output", "Output", () => this.log.search.focus(), inLog);
    shortcut(["g"], "To the end, and follow it", "Output", () => this.log.window.toEnd(), inLog);
    const inChanges = { when: () => this.view === "changes" && Boolean(this.diff) };
    for (const [key, words] of Object.entries(DiffView.KEYS)) {
      shortcut([key], words, "Changes", () => this.diff.act(key), inChanges);
    }
  }
}

/** The run whose output matters most: one that goes on, else the last; a dev server only where nothing else is. */
function latest(runs) {
  const own = runs.filter((run) => run.run_reason !== "devserver");
  return own.find((run) => run.status === "running") ?? own.filter((run) => run.status !== "queued").at(-1) ?? own.at(-1) ?? runs.at(-1);
}

// For the browser's console and for tests, as on the board.
globalThis.vibe = { page: new TaskPage(JSON.parse(find("#task-state").textContent)) };
