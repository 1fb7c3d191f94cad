// Title badge, notification and sound when a run ends or a task needs a person: once for all tabs of this browser.

import { find, findAll } from "./dom.js";
import { storage } from "./storage.js";
import { now } from "./time.js";

const CHOICE = "vibe.notifications";
const CLAIM_SECONDS = 60;
const RECENT = 60_000;
const ENDED = /^\/execution_processes\/([^/]+)\/completed_at$/;
let waiting = 0;
let mark = "";

/** Whether the reader asked for notifications in this browser and the browser allows them. */
export const wanted = () => storage.getItem(CHOICE) === "on" && globalThis.Notification?.permission === "granted";

export function initNotifications() {
  const buttons = findAll("[data-action=notifications]");
  const show = () => buttons.forEach((button) => button.setAttribute("aria-pressed", String(wanted())));
  for (const button of buttons) {
    button.hidden = !("Notification" in globalThis);
    button.addEventListener("click", async () => {
      await toggle();
      show();
    });
  }
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "visible") badge(0);
  });
  show();
}

async function toggle() {
  const on = !wanted() && (await Notification.requestPermission()) === "granted";
  storage.setItem(CHOICE, on ? "on" : "off");
}

function badge(number) {
  const title = document.title.startsWith(mark) ? document.title.slice(mark.length) : document.title;
  waiting = number;
  mark = number ? `(${number}) ` : "";
  document.title = mark + title;
}

/** The id of the run that has just ended, as a change says; null for ends of a while ago, which one who slept catches up. */
export function justEnded({ path, value }) {
  const id = value ? ENDED.exec(path)?.[1] : null;
  return id && now() - Date.parse(value) < RECENT ? id : null;
}

/**
 * Tells that something needs a person. `key` names the event (the run's id and its end), so that of many tabs
 * only the first one tells it; every hidden tab counts it in its title.
 */
export async function tell(key, heading, text, url) {
  if (document.visibilityState === "visible" && document.hasFocus()) return;
  badge(waiting + 1);
  if (!wanted() || !(await claim(key))) return;
  const notification = new Notification(heading, { body: text, tag: key, icon: find("link[rel=icon]").href });
  notification.onclick = () => {
    window.focus();
    location.assign(url);
  };
  chime();
}

/** True for one tab only: whoever writes the key first, under a lock. Old keys are cleared away. */
async function claim(key) {
  const name = `vibe.told.${key}`;
  const take = () => {
    const now = Date.now();
    if (storage.getItem(name)) return false;
    storage.setItem(name, String(now));
    for (const old of storage.keys()) {
      if (old.startsWith("vibe.told.") && now - Number(storage.getItem(old)) > CLAIM_SECONDS * 1000) {
        storage.removeItem(old);
      }
    }
    return true;
  };
  return navigator.locks ? navigator.locks.request("vibe.told", take) : take();
}

/** Two short soft tones; browsers allow sound only after the reader has used the page. */
function chime() {
  const context = new AudioContext();
  for (const [place, pitch] of [659, 880].entries()) {
    const start = context.currentTime + place * 0.13;
    const tone = new OscillatorNode(context, { frequency: pitch });
    const volume = new GainNode(context, { gain: 0 });
    volume.gain.setValueAtTime(0.06, start);
    volume.gain.exponentialRampToValueAtTime(0.0001, start + 0.35);
    tone.connect(volume).connect(context.destination);
    tone.start(start);
    tone.stop(start + 0.4);
  }
  setTimeout(() => context.close(), 1_500);
}

const asked = new Set();
const watching = new Set();

/**
 * For an EventSourceManager's keepHidden: a hidden tab stays connected only where notifications are wanted, and then
 * one tab of all that read the same stream: the one that holds a lock, which passes on when that tab closes.
 */
export function keepWatching(manager) {
  if (!wanted()) return false;
  if (!navigator.locks) return true;
  const { url } = manager;
  if (!asked.has(url)) {
    asked.add(url);
    navigator.locks.request(`vibe.watcher ${url}`, () => {
      watching.add(url);
      manager.reconsider();
      return new Promise(() => {});
    });
  }
  return watching.has(url);
}
