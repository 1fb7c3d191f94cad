// What happened to the task, its attempts and runs: who, what, when; newest first.

import { api } from "../api.js";
import { find, h, reconcile, setText } from "../dom.js";
import { ago, whole } from "../time.js";

const WAIT = 400;
const TABLES = { tasks: "the task", task_attempts: "an attempt", execution_processes: "a run", projects: "the project" };
const HIDDEN = new Set(["updated_at", "created_at", "position"]);

export class History {
  constructor(page) {
    this.page = page;
    this.loaded = false;
    this.timer = 0;
    this.list = find("#history");
  }

  /** The records changed, or the history came into sight. */
  update(changed = false) {
    if (this.page.view !== "history") {
      this.loaded &&= !changed;
      return;
    }
    if (this.loaded && !changed) return;
    this.loaded = true;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.#load(), this.list.childElementCount ? WAIT : 0);
  }

  async #load() {
    try {
      const { entries } = await api.get(this.page.urls.history);
      this.#show(entries);
    } catch (error) {
      this.loaded = false;
      if (!this.list.childElementCount) this.list.replaceChildren(h("li.history-note", {}, error.message));
    }
  }

  #show(entries) {
    const shown = entries.filter((entry) => !HIDDEN.has(entry.field));
    if (!shown.length) {
      this.list.replaceChildren(h("li.history-note", {}, "Nothing happened yet."));
      return;
    }
    this.list.querySelector(".history-note")?.remove();
    reconcile(this.list, shown, {
      keyOf: (entry) => entry.id ?? `${entry.at}${entry.object_id}${entry.field}`,
      make: () => h("li.history-entry", {}, h("span.history-what"), h("time.count")),
      update: (element, entry) => this.#fill(element, entry),
    });
  }

  #fill(element, entry) {
    const [what, time] = element.children;
    const who = entry.actor?.label ?? entry.actor_label ?? entry.actor ?? "";
    setText(time, ago(entry.at));
    time.title = whole(entry.at);
    const text = `${who}\0${sentence(entry)}`;
    if (what.dataset.shown === text) return;
    what.dataset.shown = text;
    what.replaceChildren(...(who ? [h("strong", {}, who), " "] : []), sentence(entry));
  }
}

/** An entry in words: "changed the task's status from todo to inprogress". */
export function sentence({ table, operation, field, old, value, summary }) {
  if (summary) return summary;
  const thing = TABLES[table] ?? table;
  if (operation === "add" && !field) return `made ${thing}`;
  if (operation === "remove" && !field) return `deleted ${thing}`;
  const name = String(field ?? "").replaceAll("_", " ");
  const from = old === undefined || old === null || old === "" ? "" : ` from ${brief(old)}`;
  return `set ${thing}’s ${name}${from} to ${brief(value)}`;
}

function brief(value) {
  if (value === null || value === undefined || value === "") return "nothing";
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return text.length > 120 ? `“${text.slice(0, 120)}…”` : `“${text}”`;
}
