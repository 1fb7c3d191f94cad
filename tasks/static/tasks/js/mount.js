// Puts a log or a diff into each element that asks for one, on a page that is none of the site's own (the admin).

import { DiffView } from "./diff-view.js";
import { findAll } from "./dom.js";
import { LogView } from "./log-view.js";

// What base.html gives to the pages of the site.
document.body.dataset.icons ??= new URL("../icons.svg", import.meta.url).href;

for (const element of findAll("[data-log]")) {
  const { status } = element.dataset;
  new LogView(element, { ended: !["queued", "running"].includes(status), queued: status === "queued" });
}

for (const element of findAll("[data-diff]")) {
  document.body.dataset.csrf ??= element.dataset.csrf ?? "";
  new DiffView(element, { comments: false });
}
