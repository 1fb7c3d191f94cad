// The board's page: reads what the server rendered, goes on from its cursor, and ties the parts together.

import { announce, find, findAll, h, setText } from "../dom.js";
import { watchLine } from "../line-status.js";
import { LiveDocument } from "../live.js";
import { justEnded, tell } from "../notifications.js";
import { shortcut } from "../shortcuts.js";
import { drawBoard, tick } from "./cards.js";
import { Create } from "./create.js";
import { Drag } from "./drag.js";
import { Editor } from "./editor.js";
import { Filter } from "./filter.js";
import { Keyboard } from "./keyboard.js";
import { CardMenu } from "./menu.js";
import { STATE_WORDS } from "./model.js";
import { initPhone } from "./phone.js";
import { Pulse } from "./pulse.js";
import { removeTasks, Selection } from "./selection.js";
import { Start } from "./start.js";
import { Board } from "./store.js";

const data = JSON.parse(find("#board-data").content.textContent);
const live = new LiveDocument(`/api/events/?project_id=${data.project}`, data.document, data.cursor);
const board = new Board(live, data);
const filter = new Filter(board);
const pulse = new Pulse(board);
const editor = new Editor(board);
const start = new Start(board);
const selection = new Selection(board, { startMany: (ids) => start.open(ids) });
const drag = new Drag(board, selection, { redraw: draw });
const keyboard = new Keyboard(board, selection);
const menu = new CardMenu(board, { selection, editor, start, keyboard });
let created = null;
const create = new Create(board, { onCreated: (id) => ((created = id), showCreated()) });

function draw() {
  drawBoard(board, { shown: (card) => filter.passes(card), extra: (card) => pulse.of(card), carried: drag.carried });
  drag.restore();
  filter.drawMatches();
  selection.draw();
  keyboard.roving();
  showCreated();
}

/** A task that one made oneself is focused as soon as it is on the board. */
function showCreated() {
  if (!created || !board.card(created) || find("dialog[open]")) return;
  const id = created;
  created = null;
  // A dialog that was closed just now may have the focus still.
  const typing = document.activeElement.matches("input, textarea, select") && !document.activeElement.closest("dialog");
  if (!typing) keyboard.focus(id);
}

draw();
board.drawn = true;

board.addEventListener("change", () => {
  draw();
  drawProject();
  drawLabels();
});
filter.addEventListener("change", draw);
pulse.addEventListener("change", draw);

function drawProject() {
  const project = live.table("projects")[board.project];
  if (project) {
    setText(find("#project-name"), project.name);
    return;
  }
  sayGone();
}

function sayGone() {
  if (find("#project-gone")) return;
  const words = "This project was deleted, or you are no longer a member of it.";
  find("#columns").before(h("div.notice.notice-red", { id: "project-gone", role: "alert" }, words, " ", h("a", { href: "/" }, "All projects")));
}

function drawLabels() {
  const labels = [...new Set(Object.values(live.table("tasks")).flatMap((task) => task.labels))].sort();
  const list = find("#known-labels");
  if ([...list.children].map((option) => option.value).join("\0") !== labels.join("\0")) list.replaceChildren(...labels.map((label) => h("option", { value: label })));
}

// Judged by the operation, not by what a frame shows: a short run begins and ends within one.
live.addEventListener("operation", ({ detail }) => {
  const id = justEnded(detail);
  if (id) tellOfEnd(live.table("execution_processes")[id]);
});

function tellOfEnd(run) {
  if (run.run_reason !== "codingagent") return;
  const task = board.task(live.table("task_attempts")[run.task_attempt_id]?.task_id);
  if (!task) return;
  const words = run.status === "completed" ? "The agent is done: ready for review" : (STATE_WORDS[run.status] ?? run.status);
  tell(run.id, task.title, words, `/tasks/${task.id}/?run=${run.id}`);
}

shortcut(["Mod+z"], "Take the last move back", "Moving", async () => {
  const number = await board.undo();
  announce(number ? `${number} moved back.` : "There is no move to take back.");
});

const focusedId = () => document.activeElement?.closest?.(".columns .card")?.dataset.key;
shortcut(["e"], "Edit the task", "Board", () => editor.open(focusedId()), { when: focusedId });
shortcut(["Enter"], "Open the task", "Board", () => false, { when: focusedId });
shortcut(["Delete", "Backspace"], "Delete the selected tasks", "Board", () => removeTasks(board, selection.with(focusedId())), { when: focusedId, shown: ["Del"] });

document.addEventListener("click", (event) => {
  const order = event.target.closest("[data-do]");
  if (order?.dataset.do === "create") create.open(order.dataset.status);
  else if (order?.dataset.do === "menu") menu.open(order);
});

find("#columns").addEventListener("click", (event) => {
  const card = event.target.closest(".card");
  if (!card) return;
  const id = card.dataset.key;
  if (event.target.matches(".card-check")) selection.toggle(id);
  else if (!event.target.closest(".card-tools")) press(event, id);
});

/** With Ctrl or ⌘ a press selects, with Shift up to there; while a finger selects, a tap does. */
function press(event, id) {
  const tapping = selection.size > 0 && matchMedia("(pointer: coarse)").matches;
  if (event.shiftKey) selection.extend(id);
  else if (event.ctrlKey || event.metaKey || tapping) selection.toggle(id);
  else return;
  event.preventDefault();
}

setInterval(() => document.visibilityState === "visible" && tick(), 1_000);
initPhone();
drawLabels();
watchLine(live.manager);
live.manager.addEventListener("state", ({ detail }) => detail.state === "gone" && sayGone());
live.start();

// For the browser's console and for tests: what the page holds, to be compared with the database.
globalThis.vibe = { live, board };
findAll(".columns .cards").forEach((list) => list.setAttribute("data-ready", ""));
