import { announce, find, h } from "./dom.js";

const SHOWN = 6_000;
const MOST = 4;

/**
 * A short message at the foot of the page. `action` = {label, run} adds a button ("Undo").
 * Errors stay until they are closed. The returned function takes it away.
 */
export function toast(message, { error = false, action = null, seconds = SHOWN / 1000 } = {}) {
  const list = find("#toasts");
  const close = () => {
    item.remove();
    if (!list.childElementCount) list.hidePopover?.();
  };
  const item = h(
    `div.toast${error ? ".toast-error" : ""}`,
    { role: error ? "alert" : null },
    h("span", {}, message),
    action && h("button", { type: "button", onclick: () => (close(), action.run()) }, action.label),
    h("button", { type: "button", "aria-label": "Close this message", onclick: close }, "✕"),
  );
  // Shown anew, so that it lies above a dialog that was opened after the last message.
  list.hidePopover?.();
  list.append(item);
  list.showPopover?.();
  while (list.childElementCount > MOST) list.firstElementChild.remove();
  if (!error) {
    announce(message);
    wait(item, close, seconds * 1000);
  }
  return close;
}

/** Closes after `time`, but not while the pointer or the focus is on it. */
function wait(item, close, time) {
  let timer = setTimeout(close, time);
  const hold = () => clearTimeout(timer);
  const go = () => (timer = setTimeout(close, time / 2));
  item.addEventListener("pointerenter", hold);
  item.addEventListener("focusin", hold);
  item.addEventListener("pointerleave", go);
  item.addEventListener("focusout", go);
}

/** Shows what went wrong in an event handler; anything but an ApiError is a bug and goes on to the console. */
export function showError(error, action = null) {
  toast(error.message, { error: true, action });
  if (error.name !== "Error" && error.status === undefined) console.error(error);
}
