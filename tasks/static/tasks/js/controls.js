// Small controls of the log and the diff.

import { announce, h, icon } from "./dom.js";
import { storage } from "./storage.js";

/** A button that is switched on and off, and remembers it in this browser under `key`. `change(on)` is called at once. */
export function toggle(label, { key, on, title, change }) {
  const stored = storage.getItem(`vibe.${key}`);
  const button = h("button.button.button-small.button-quiet", { type: "button", title }, label);
  const set = (pressed) => {
    button.setAttribute("aria-pressed", String(pressed));
    change(pressed);
  };
  button.addEventListener("click", () => {
    const pressed = button.getAttribute("aria-pressed") !== "true";
    storage.setItem(`vibe.${key}`, pressed ? "1" : "0");
    set(pressed);
  });
  set(stored === null ? on : stored === "1");
  return button;
}

/** A small quiet button with an icon. */
export function tool(name, label, title, onclick) {
  return h("button.button.button-small.button-quiet", { type: "button", title, onclick }, icon(name), h("span", {}, label));
}

const confirmed = new WeakMap();

/** Shows for a moment, on the button that was pressed, what came of it; then its label, unless that is another by then. */
export async function confirmOn(button, text) {
  const label = button.querySelector("span") ?? button;
  const last = confirmed.get(label);
  const now = { text, label: label.textContent === last?.text ? last.label : label.textContent };
  confirmed.set(label, now);
  label.textContent = text;
  announce(text);
  await new Promise((resolve) => setTimeout(resolve, 1600));
  if (confirmed.get(label) !== now) return;
  confirmed.delete(label);
  if (label.textContent === text) label.textContent = now.label;
}

/** Copies to the clipboard also where the site is not served over https, which closes the modern way. */
export async function copyText(text) {
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(text);
    return;
  }
  const area = h("textarea.visually-hidden", { "aria-hidden": "true" });
  area.value = text;
  document.body.append(area);
  area.select();
  const copied = document.execCommand("copy");
  area.remove();
  if (!copied) throw new Error("This browser does not let the page copy.");
}

/** Hours to milliseconds in the reader's own time zone. */
export const clockTime = new Intl.DateTimeFormat(undefined, {
  hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3, hour12: false,
});
