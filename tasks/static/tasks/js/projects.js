// The list of projects, fetched anew when something in it may have changed: it is short, and its numbers are the
// server's to count.

import { EventSourceManager } from "../../events/event-source-manager.js";
import { find } from "./dom.js";
import { watchLine } from "./line-status.js";

const GATHER = 400;
const SHOWN = /^\/(projects|tasks)(\/|$)|^\/execution_processes\/[^/]+(\/status)?$|^$/;
let timer = null;
let asked = null;

const { cursor } = find("#projects").dataset;
const manager = new EventSourceManager("/api/events/", { cursor, share: true });
manager.addEventListener("message", ({ detail }) => {
  if (detail.type === "message" && SHOWN.test(JSON.parse(detail.data).path)) timer ??= setTimeout(refresh, GATHER);
});
watchLine(manager);
manager.start();

async function refresh() {
  timer = null;
  const mine = (asked = {});
  const answer = await fetch(location.href, { headers: { Accept: "text/html" } }).catch(() => null);
  if (!answer?.ok || answer.redirected) return; // the line's sign says what is wrong; the next change asks again
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("projects");
  if (mine !== asked) return;
  const list = find("#projects");
  if (fresh.isEqualNode(list)) return;
  const focused = document.activeElement?.closest("#projects a")?.getAttribute("href");
  list.replaceChildren(...fresh.children);
  if (focused) find(`#projects a[href="${focused}"]`)?.focus();
}
