// The sign of the line in the top bar: one for all streams of the page, as bad as the worst of them.

import { announce, find, setText } from "./dom.js";
import { elapsed } from "./time.js";

const WORST_FIRST = ["signedout", "offline", "reconnecting", "connecting", "live"];
const managers = new Set();
let timer = null;
let shown = null;
let lostAt = null;

/** Shows the state of this EventSourceManager from now on; the returned function stops that. */
export function watchLine(manager) {
  managers.add(manager);
  manager.addEventListener("state", show);
  show();
  return () => {
    managers.delete(manager);
    manager.removeEventListener("state", show);
    show();
  };
}

/** The state of the page's line: one of WORST_FIRST, or "idle" where nothing is streamed. */
function lineState() {
  const states = [...managers].map((manager) => manager.state);
  return WORST_FIRST.find((state) => states.includes(state)) ?? "idle";
}

function show() {
  const state = lineState();
  const button = find("#line");
  if (!button) return;
  button.hidden = state === "idle";
  button.dataset.state = state;
  setText(find(".line-text", button), words(state));
  say(state);
  clearTimeout(timer);
  if (state === "reconnecting" || state === "offline") timer = setTimeout(show, 250);
}

function words(state) {
  if (state === "live") return "Live";
  if (state === "connecting") return "Connecting";
  if (state === "signedout") return "Signed out · sign in";
  const since = lostAt && Date.now() - lostAt > 10_000 ? ` · ${elapsed(lostAt, Date.now())}` : "";
  const next = Math.min(...[...managers].map((manager) => manager.retryAt ?? Infinity));
  const seconds = Math.ceil((next - Date.now()) / 1000);
  const countdown = Number.isFinite(seconds) && seconds > 0 ? ` in ${seconds}s` : "…";
  return state === "offline" ? `Offline${since}` : `Reconnecting${countdown}`;
}

/** Tells a screen reader once when the line is lost for a while and when it is back; not at every attempt. */
function say(state) {
  const bad = ["reconnecting", "offline", "signedout"].includes(state);
  document.documentElement.toggleAttribute("data-line-lost", bad);
  if (bad) lostAt ??= Date.now();
  else if (state === "live") lostAt = null;
  if (state === shown || (!bad && state !== "live")) return;
  if (bad && Date.now() - lostAt > 1_500) {
    announce(state === "signedout" ? "You are signed out." : "The connection is lost. Trying to connect again.");
    shown = state;
  } else if (state === "live") {
    if (shown && shown !== "live") announce("Connected again. The page is up to date.");
    shown = "live";
  }
}

/** A press on the sign: connect now, or go and sign in. */
export function initLine() {
  find("#line")?.addEventListener("click", () => {
    if (lineState() === "signedout") {
      location.assign(`/sign-in/?next=${encodeURIComponent(location.pathname + location.search)}`);
      return;
    }
    for (const manager of managers) manager.retryNow();
  });
}
