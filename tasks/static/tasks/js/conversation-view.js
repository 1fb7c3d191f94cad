// A run of a coding agent as a conversation: what it said, the tools it used with their results folded, its cost.

import { LogStream } from "../../events/log-stream.js";
import { plainText } from "./ansi.js";
import { h, icon, setText } from "./dom.js";

/** Entries that stay in the page; of a longer conversation the first ones are in the raw log. */
const KEPT = 1_500;
const SHORT = 600;

/**
 * Entries: {kind: message|delta|thinking|tool|result|usage|error|system|raw, role, text, tool, result, usage, timestamp}.
 * "count" (CustomEvent) tells how many have come.
 */
export class ConversationView extends EventTarget {
  constructor(element, { processId, watch = () => {} }) {
    super();
    this.element = element;
    this.tools = new Map();
    this.count = 0;
    this.list = h("ol.conversation-list");
    this.note = h("p.conversation-note", { role: "status" }, "Waiting for the agent’s first words…");
    this.scroller = h("div.conversation", { tabindex: "0", role: "region", "aria-label": "Conversation with the agent" }, this.list, this.note);
    element.replaceChildren(this.scroller);
    this.stream = new LogStream(processId, { parameters: { view: "conversation" } });
    this.stream.addEventListener("records", ({ detail }) => this.#take(detail.records));
    this.stream.addEventListener("reset", () => this.#reset());
    this.stream.addEventListener("finished", () => this.#finish());
    this.stream.start();
    this.unwatch = watch(this.stream.manager);
  }

  destroy() {
    this.unwatch?.();
    this.stream.close();
    this.element.replaceChildren();
  }

  #take(entries) {
    const { scroller } = this;
    const atEnd = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 60;
    for (const entry of entries) this.#add(entry);
    while (this.list.childElementCount > KEPT) this.list.firstElementChild.remove();
    this.count += entries.length;
    this.note.hidden = this.list.childElementCount > 0;
    if (atEnd) scroller.scrollTop = scroller.scrollHeight;
    this.dispatchEvent(new CustomEvent("count"));
  }

  #reset() {
    this.tools.clear();
    this.list.replaceChildren();
  }

  #finish() {
    setText(this.note, "It said nothing. The raw output has all that it printed.");
    for (const tool of this.tools.values()) tool.classList.remove("is-open");
  }

  #add(entry) {
    if (entry.kind === "result") {
      this.#result(entry);
      return;
    }
    if (entry.kind === "delta" && this.#goesOn(entry)) return;
    if (entry.kind === "error" && this.#isTold(entry)) return;
    const makers = { message: message, delta: message, thinking: thinking, tool: tool, usage: usage, error: failure };
    const element = (makers[entry.kind] ?? plain)(entry);
    if (!element) return;
    if (entry.kind === "tool" && entry.tool?.id) this.tools.set(entry.tool.id, element);
    this.#append(element, entry.kind);
  }

  /** An agent may say what went wrong, in full, and then, shorter, that its turn failed of it. */
  #isTold({ text }) {
    const last = this.list.lastElementChild;
    const told = last?.dataset.kind === "error" && this.fault.startsWith(text);
    if (!told) this.fault = text;
    return told;
  }

  /** Puts a piece of a message behind the pieces before it; false where it is the first. */
  #goesOn({ role, text }) {
    const last = this.list.lastElementChild;
    if (last?.dataset.kind !== "delta" || this.said.role !== role) {
      this.said = { role, text };
      return false;
    }
    this.said.text += text;
    last.querySelector(".talk-text").replaceChildren(...paragraphs(this.said.text));
    return true;
  }

  /** Lines of plain output that follow each other are one block. */
  #append(element, kind) {
    const last = this.list.lastElementChild;
    if (kind === "raw" && last?.dataset.kind === "raw" && last.querySelector("pre").childNodes.length < 400) {
      last.querySelector("pre").append("\n", element.querySelector("pre").textContent);
      return;
    }
    element.dataset.kind = kind;
    this.list.append(element);
  }

  #result(entry) {
    const { text, result } = entry;
    const owner = this.tools.get(result?.id);
    if (!owner) {
      this.list.append(h("li.talk.talk-tool", {}, details("Result", "terminal", text, result?.is_error)));
      return;
    }
    this.tools.delete(result.id);
    owner.classList.remove("is-open");
    owner.classList.toggle("is-error", Boolean(result.is_error));
    setText(owner.querySelector(".talk-state"), result.is_error ? "failed" : "");
    owner.querySelector("details").append(h("pre.talk-output", {}, plainLines(text) || "(no output)"));
  }
}

function message({ role, text }) {
  if (!text) return null;
  const mine = role === "user";
  return h(`li.talk.talk-message${mine ? ".is-user" : ""}`, {}, h("span.talk-who", {}, icon(mine ? "user" : "robot"), mine ? "You" : "Agent"), h("div.talk-text", {}, paragraphs(text)));
}

function thinking({ text }) {
  return text ? h("li.talk.talk-thinking", {}, h("details", {}, h("summary", {}, "Thinking"), h("div.talk-text", {}, paragraphs(text)))) : null;
}

function tool({ tool: call, text }) {
  const body = typeof call?.input === "string" ? call.input : JSON.stringify(call?.input ?? {}, null, 2);
  return h(
    "li.talk.talk-tool.is-open", {},
    h("details", {},
      h("summary", {}, icon("terminal"), h("strong", {}, call?.name ?? "Tool"), h("span.truncate.mono", {}, brief(call?.input) || text || ""), h("span.talk-state", {}, "")),
      h("pre.talk-input", {}, body)),
  );
}

function usage({ usage: used, text }) {
  const parts = [];
  if (used?.input) parts.push(`${used.input.toLocaleString()} tokens in`);
  if (used?.cached) parts.push(`${used.cached.toLocaleString()} cached`);
  if (used?.output) parts.push(`${used.output.toLocaleString()} out`);
  if (used?.cost) parts.push(`$${used.cost.toFixed(4)}`);
  return parts.length || text ? h("li.talk.talk-usage", {}, icon("info"), parts.join(" · ") || text) : null;
}

function failure({ text }) {
  return h("li.talk.talk-error", {}, icon("warning"), h("div.talk-text", { role: "alert" }, paragraphs(text || "Something went wrong.")));
}

function plain({ kind, text }) {
  return text ? h(`li.talk.talk-${kind === "system" ? "system" : "raw"}`, {}, h("pre", {}, plainLines(text))) : null;
}

function details(name, picture, text, isError) {
  return h(`details${isError ? ".is-error" : ""}`, {}, h("summary", {}, icon(picture), name), h("pre.talk-output", {}, plainLines(text)));
}

const plainLines = (text) => (text ?? "").split("\n").map((line) => plainText(line)).join("\n");

/** The one argument that says what a tool does: its command, file or pattern. */
function brief(input) {
  if (typeof input === "string") return input.slice(0, 200);
  const told = ["command", "file_path", "path", "pattern", "query", "url", "description"].map((name) => input?.[name]).find(Boolean);
  return told === undefined ? "" : String(Array.isArray(told) ? told.join(" ") : told).slice(0, 200);
}

/** Text with its code blocks and `code` set apart; all else stays as it was written. */
function paragraphs(text) {
  const parts = text.split(/^```[^\n]*\n([\s\S]*?)^```\s*$/m);
  return parts.flatMap((part, i) => {
    if (i % 2) return [h("pre.talk-code", {}, part.replace(/\n$/, ""))];
    return part.trim() ? [inline(part.trim())] : [];
  }).flatMap((node) => fold(node));
}

function inline(text) {
  const pieces = text.split(/`([^`\n]+)`|\*\*([^*\n]+)\*\*/);
  const nodes = [];
  for (let i = 0; i < pieces.length; i += 3) {
    if (pieces[i]) nodes.push(pieces[i]);
    if (pieces[i + 1] !== undefined) nodes.push(h("code", {}, pieces[i + 1]));
    if (pieces[i + 2] !== undefined) nodes.push(h("strong", {}, pieces[i + 2]));
  }
  return h("p", {}, nodes);
}

/** A very long piece starts folded. */
function fold(node) {
  if (node.localName !== "pre" || node.textContent.length < SHORT * 4) return [node];
  return [h("details", {}, h("summary", {}, `${node.textContent.split("\n").length} lines of code`), node)];
}
