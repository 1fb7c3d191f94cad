// Keyboard shortcuts: each is registered once, with its words, so that the help (?) can't be out of date.

import { find, h, icon } from "./dom.js";

const shortcuts = [];
const TYPING = "input:not([type=checkbox]):not([type=radio]), textarea, select, [contenteditable=true]";

/**
 * Registers keys: shortcut(["c"], "Create a task", "Board", (event) => …). A key is KeyboardEvent.key, with
 * "Shift+", "Alt+" or "Mod+" (Ctrl, or ⌘ on a Mac) before it. `when` narrows; run() returning false passes it on.
 * It does not fire while somebody types or a dialog is open, unless `everywhere`.
 */
export function shortcut(keys, words, group, run, { when = () => true, everywhere = false, shown = keys } = {}) {
  shortcuts.push({ keys, words, group, run, when, everywhere, shown });
}

function name(event) {
  const letter = event.key.length === 1;
  const shift = event.shiftKey && !letter ? "Shift+" : "";
  return `${event.ctrlKey || event.metaKey ? "Mod+" : ""}${event.altKey ? "Alt+" : ""}${shift}${event.key}`;
}

export function initShortcuts() {
  shortcut(["?"], "Show this help", "Everywhere", () => showHelp());
  // Keys of an input method choose among its words. 229 is the one that ends that in Safari.
  const isComposing = (event) => event.isComposing || event.keyCode === 229;
  document.addEventListener("keydown", (event) => isComposing(event) && event.stopPropagation(), true);
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented) return;
    const busy = event.target.closest?.(TYPING) || find("dialog[open]");
    const pressed = name(event);
    for (const { keys, run, when, everywhere } of shortcuts) {
      if ((busy && !everywhere) || !keys.includes(pressed) || !when(event)) continue;
      if (run(event) === false) continue;
      event.preventDefault();
      return;
    }
  });
}

const SIGNS = { ArrowUp: "↑", ArrowDown: "↓", ArrowLeft: "←", ArrowRight: "→", " ": "Space", Escape: "Esc" };
const MOD = /Mac|iPhone|iPad/.test(navigator.platform) ? "⌘" : "Ctrl";
const sign = (key) => key.replace("Mod+", `${MOD} `).replace("Shift+", "⇧ ").replace("Alt+", "Alt ").replace(/(Arrow\w+|Escape| $)/, (word) => SIGNS[word] ?? word);

/** The help: every registered shortcut, in groups. */
export function showHelp() {
  if (find("#shortcuts-help")) return;
  const groups = [...new Set(shortcuts.map((one) => one.group))];
  const dialog = h(
    "dialog.dialog",
    { id: "shortcuts-help", "aria-labelledby": "shortcuts-title", onclose: () => dialog.remove() },
    h(
      "div.dialog-head",
      {},
      h("h2", { id: "shortcuts-title" }, "Keyboard shortcuts"),
      h("button.button.button-quiet.button-icon", { type: "button", "aria-label": "Close", onclick: () => dialog.close() }, icon("close")),
    ),
    h("div.dialog-body.shortcuts-body", { tabindex: "0" }, groups.map((group) => section(group))),
  );
  document.body.append(dialog);
  dialog.showModal();
}

function section(group) {
  const rows = shortcuts.filter((one) => one.group === group && one.words);
  return h(
    "section.shortcuts",
    {},
    h("h3", {}, group),
    h("dl", {}, rows.map(({ words, shown }) => h("div", {}, h("dt", {}, words), h("dd", {}, shown.map((key) => h("kbd", {}, sign(key))))))),
  );
}
