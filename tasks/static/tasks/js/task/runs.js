// The runs of the open attempt, as a strip above their output.

import { find, h, reconcile, setText } from "../dom.js";
import { elapsed, now } from "../time.js";
import { endOf, runName, stateName } from "./words.js";

export class Runs {
  constructor(page) {
    this.page = page;
    this.strip = find("#runs");
  }

  update() {
    const runs = this.page.document.runs(this.page.attemptId);
    const shows = this.page.view === "log" || this.page.view === "conversation";
    this.strip.hidden = !runs.length || !shows;
    reconcile(this.strip, runs, {
      keyOf: (run) => run.id,
      make: (run) => this.#make(run),
      update: (element, run) => this.#update(element, run, runs),
    });
  }

  #make(run) {
    return h(
      "button.run", { type: "button", onclick: () => this.page.openRun(run.id) },
      h("span.run-dot", { "aria-hidden": "true" }), h("span.run-name"), h("span.visually-hidden"), h("span.run-code"), h("span.run-time.count"),
    );
  }

  #update(element, run, runs) {
    const [, name, state, code, time] = element.children;
    element.dataset.state = run.status;
    setText(name, runName(run, runs));
    setText(state, `, ${stateName(run.status)}, `);
    setText(code, run.status === "killed" ? "stopped" : endOf(run));
    setText(time, run.started_at ? elapsed(run.started_at, run.completed_at ?? now()) : stateName(run.status).toLowerCase());
    element.title = [stateName(run.status), endOf(run), run.prompt.slice(0, 400)].filter(Boolean).join(" · ");
    if (run.id === this.page.runId) element.setAttribute("aria-current", "true");
    else element.removeAttribute("aria-current");
  }
}
