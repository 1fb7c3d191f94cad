// What happened to the task, its attempts and runs: who, what, when; newest first.

import { api } from "../api.js";
import { find, h, reconcile, setText } from "../dom.js";
import { ago, whole } from "../time.js";
import { namesOf, sentence } from "./sentences.js";

const WAIT = 400;

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
    const asked = (this.asked = {});
    try {
      const { entries } = await api.get(this.page.urls.history);
      if (asked === this.asked) this.#show(entries);
    } catch (error) {
      this.loaded = false;
      if (!this.list.childElementCount) this.list.replaceChildren(h("li.history-note", {}, error.message));
    }
  }

  #show(entries) {
    const names = namesOf(entries, this.page.document);
    const shown = entries.map((entry) => ({ ...entry, said: sentence(entry, names) })).filter(({ said }) => said);
    if (!shown.length) {
      this.list.replaceChildren(h("li.history-note", {}, "Nothing happened yet."));
      return;
    }
    this.list.querySelector(".history-note")?.remove();
    reconcile(this.list, shown, {
      keyOf: (entry) => entry.id,
      make: () => h("li.history-entry", {}, h("span.history-what", {}, h("strong"), " ", h("span")), h("time.count")),
      update: (element, entry) => this.#fill(element, entry),
    });
  }

  #fill(element, { actor_label: who, said, at }) {
    const [what, time] = element.children;
    setText(what.firstChild, who);
    setText(what.lastChild, said);
    setText(time, ago(at));
    time.dateTime = at;
    time.title = whole(at);
  }
}
