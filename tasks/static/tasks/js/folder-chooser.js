// The form of a project: browsing folders of the server, and asking before it is deleted.

import { api } from "./api.js";
import { confirm } from "./components.js";
import { find, findAll, h, icon, setText } from "./dom.js";
import { askToLeave } from "./unsaved.js";

const dialog = find("#folder-chooser");
const input = find("#id_repo_path");
const list = find(".folder-list", dialog);
const error = find(".field-error", dialog);
const use = find("[data-choose]", dialog);
const { form } = input;
let shown = "";
let asked = null;
let sent = false;

form.addEventListener("submit", () => (sent = true));
const changed = ({ value, defaultValue = value }) => value !== defaultValue;
askToLeave(() => !sent && ("unsaved" in form.dataset || [...form.elements].some(changed)));

const open = find("[data-action=choose-folder]");
open.hidden = false;
open.addEventListener("click", () => {
  dialog.showModal();
  show(input.value.trim()).then((worked) => worked || show(""));
});

use.addEventListener("click", () => choose(shown));

function choose(path) {
  input.value = path;
  dialog.close();
  input.focus();
}

/** Shows a folder, unless another was asked for meanwhile; false where it can't be shown. */
async function show(path) {
  const mine = (asked = {});
  use.disabled = true;
  list.replaceChildren(...Array.from({ length: 6 }, () => h("li.skeleton.folder-skeleton")));
  try {
    const listing = await api.get(`${dialog.dataset.url}?path=${encodeURIComponent(path)}`);
    if (mine === asked) draw(listing);
    return true;
  } catch (problem) {
    if (mine !== asked) return true;
    list.replaceChildren();
    error.hidden = false;
    setText(error, problem.message);
    return false;
  }
}

function draw(listing) {
  shown = listing.path;
  error.hidden = true;
  use.disabled = !listing.repository;
  drawPath(listing);
  const others = listing.parent === null ? listing.roots.filter((root) => root !== listing.path) : [];
  const folders = [...listing.folders, ...others.map((path) => ({ name: path, path }))];
  list.replaceChildren(...folders.map((folder) => h("li", {}, entry(folder))));
  if (!listing.folders.length) {
    const words = listing.repository ? "This folder is a repository." : "No folders in here.";
    list.append(h("li.folder-none.muted", {}, words));
  }
  if (listing.more) list.append(h("li.folder-none.muted", {}, "There are more folders: type the path instead."));
  find("button", list)?.focus();
}

function entry(folder) {
  const badge = folder.repository && h("span.badge.badge-green", {}, "repository");
  const go = () => (folder.repository ? choose(folder.path) : show(folder.path));
  const name = h("span.grow.truncate", {}, folder.name);
  const row = h("button.menu-item", { type: "button", onclick: go }, icon(folder.repository ? "repo" : "folder"), name, badge);
  if (!folder.repository) return row;
  const inside = { type: "button", "aria-label": `Open the folder ${folder.name}`, onclick: () => show(folder.path) };
  return h("div.row", {}, row, h("button.button.button-quiet.button-icon.button-small", inside, icon("chevron-right")));
}

function drawPath({ path, parent }) {
  const up = { type: "button", "aria-label": "The folder above", disabled: parent === null, onclick: () => show(parent) };
  find(".folder-path", dialog).replaceChildren(
    h("button.button.button-quiet.button-icon.button-small", up, icon("arrow-up")),
    h("span.truncate", { title: path }, path),
  );
}

for (const asking of findAll("form[data-confirm]")) {
  asking.addEventListener("submit", async (event) => {
    event.preventDefault();
    const { confirm: title, confirmText: text } = asking.dataset;
    if (!(await confirm(title, { text, yes: "Delete", danger: true }))) return;
    sent = true;
    asking.submit();
  });
}
