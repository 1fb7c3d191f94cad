// A line of code as elements: colours of its language, and the part of it that changed.

import { api } from "./api.js";

/** Blocks of code that are not coloured: more than this is no longer read line by line. In UTF-16 units. */
const COLOURED_LIMIT = 200_000;
const CACHED = 400;

/** Asks the server (Pygments) for the colours of blocks of code, and remembers them. */
export class Highlighter {
  constructor(url) {
    this.url = url;
    this.cache = new Map();
  }

  /** What is known of a block already: an array of lines, or undefined. */
  known(file, lines) {
    return this.cache.get(keyOf(file, lines));
  }

  /**
   * @param {string} file its name says the language
   * @param {string[][]} blocks lines of code that belong together
   * @returns {Promise<boolean>} whether anything new is known now
   */
  async load(file, blocks) {
    const wanted = blocks.filter((lines) => lines.length && !this.cache.has(keyOf(file, lines)));
    const size = wanted.reduce((sum, lines) => sum + keyOf(file, lines).length, 0);
    if (!wanted.length || size > COLOURED_LIMIT) return false;
    const answer = await api.post(this.url, { file, blocks: wanted }).catch(() => null);
    // Without colours the code reads as well: nobody needs to be told.
    if (!answer?.blocks) return false;
    answer.blocks.forEach((lines, i) => this.#remember(keyOf(file, wanted[i]), lines));
    return true;
  }

  #remember(key, lines) {
    this.cache.set(key, lines);
    if (this.cache.size > CACHED) this.cache.delete(this.cache.keys().next().value);
  }
}

const keyOf = (file, lines) => `${file}\0${lines.join("\n")}`;

/**
 * The nodes of one line.
 * @param {string} text
 * @param {[string, number][]} tokens class and length of each run, as the server gives them; may fall short
 * @param {[number, number]|undefined} mark the changed part
 */
export function codeNodes(text, tokens = [], mark) {
  const nodes = [];
  let at = 0;
  const put = (until, name) => {
    const marked = mark && at >= mark[0] && at < mark[1];
    const part = text.slice(at, until);
    if (!part) return;
    if (!name && !marked) nodes.push(document.createTextNode(part));
    else nodes.push(span(part, name, marked));
    at = until;
  };
  const run = (until, name) => {
    for (const edge of mark ?? []) if (edge > at && edge < until) put(edge, name);
    put(until, name);
  };
  for (const [name, length] of tokens) run(Math.min(at + length, text.length), name);
  run(text.length, "");
  return nodes.length ? nodes : [document.createElement("br")]; // or who copies lines gets none for this one
}

function span(text, name, marked) {
  const element = document.createElement("span");
  element.textContent = text;
  if (name) element.className = `hl-${name}`;
  if (marked) element.classList.add("diff-mark");
  return element;
}
