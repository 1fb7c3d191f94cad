// Behaviour of the design system's components: menus, dialogs, choices of look.

import { find, findAll, h } from "./dom.js";
import { storage } from "./storage.js";

/** Menus (details.menu) close on a press elsewhere, on Escape and after a choice; arrows walk through them. */
export function initMenus() {
  document.addEventListener("click", (event) => {
    for (const menu of findAll("details.menu[open]")) {
      const chosen = event.target.closest(".menu-item:not([aria-pressed])");
      if (!menu.contains(event.target) || (chosen && menu.contains(chosen))) menu.open = false;
    }
  });
  document.addEventListener("keydown", (event) => {
    const menu = event.target.closest?.("details.menu[open]");
    if (!menu) return;
    if (event.key === "Escape") {
      menu.open = false;
      find("summary", menu).focus();
      event.preventDefault();
    } else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      walk(menu, event.key === "ArrowDown" ? 1 : -1);
      event.preventDefault();
    }
  });
}

function walk(menu, step) {
  const items = findAll(".menu-item, .menu-item-row button", menu).filter((item) => item.offsetParent);
  const place = items.indexOf(document.activeElement);
  items[(place + step + items.length) % items.length]?.focus();
}

/** Theme and density: kept in this browser, applied at once. */
export function initLook() {
  for (const [kind, fallback] of [["theme", "auto"], ["density", ""]]) {
    const buttons = findAll(`[data-${kind}-choice]`);
    const show = () => {
      const value = document.documentElement.dataset[kind] ?? fallback;
      for (const button of buttons) button.setAttribute("aria-pressed", String(button.dataset[`${kind}Choice`] === value));
    };
    for (const button of buttons) {
      button.addEventListener("click", (event) => {
        event.stopPropagation();
        choose(kind, button.dataset[`${kind}Choice`], fallback);
        show();
      });
    }
    show();
  }
}

function choose(kind, value, fallback) {
  const root = document.documentElement;
  const off = value === fallback || (kind === "density" && root.dataset[kind] === value);
  if (off) delete root.dataset[kind];
  else root.dataset[kind] = value;
  if (off) storage.removeItem(`vibe.${kind}`);
  else storage.setItem(`vibe.${kind}`, value);
}

/** Asks in a dialog; resolves to true or false. `danger` colours the button. */
export function confirm(title, { text = "", yes = "Continue", danger = false } = {}) {
  return new Promise((resolve) => {
    const dialog = h(
      "dialog.dialog.dialog-small",
      // A key that is still held from the press that asked is no answer.
      { "aria-labelledby": "confirm-title", onkeydown: (event) => event.repeat && event.preventDefault() },
      h(
        "form",
        { method: "dialog" },
        h("div.dialog-head", {}, h("h2", { id: "confirm-title" }, title)),
        text && h("div.dialog-body", {}, h("p.muted", {}, text)),
        h(
          "div.dialog-foot",
          {},
          h("button.button", { value: "no" }, "Cancel"),
          h(`button.button.${danger ? "button-danger" : "button-primary"}`, { value: "yes", autofocus: true }, yes),
        ),
      ),
    );
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** A press on the backdrop closes a dialog that says so (data-light-dismiss), unless it holds unsaved words. */
export function initDialogs() {
  document.addEventListener("click", (event) => {
    const dialog = event.target;
    if (dialog.localName === "dialog" && "lightDismiss" in dialog.dataset) requestClose(dialog);
    const closer = event.target.closest("[data-close]");
    if (closer) requestClose(closer.closest("dialog"));
  });
}

/** Closes a dialog unless its "cancel" event is prevented, as Escape does. */
function requestClose(dialog) {
  if (dialog.dispatchEvent(new Event("cancel", { cancelable: true }))) dialog.close("cancel");
}

const workOf = new WeakMap();

/** Marks a button as busy while `work` goes on, so that a second press does nothing. */
export async function busy(button, work) {
  if (!button) return work();
  if (workOf.has(button)) return undefined;
  workOf.set(button, work);
  button.setAttribute("aria-busy", "true");
  try {
    return await work();
  } finally {
    if (workOf.get(button) === work) idle(button);
  }
}

/** The button is for something else from now on, which need not wait for what it began. */
export function idle(button) {
  workOf.delete(button);
  button.removeAttribute("aria-busy");
}
