// Small helpers to build and find elements. Data goes in as text, never as markup.

/** First element that matches, or null. */
export const find = (selector, root = document) => root.querySelector(selector);

/** All elements that match, as an array. */
export const findAll = (selector, root = document) => [...root.querySelectorAll(selector)];

/**
 * An element: h("button.button", {type: "button", onclick: f, "aria-label": "…", dataset: {id}}, "text", child, …).
 * Properties that start with "on" are listeners; null and false leave an attribute out, true sets it empty.
 */
export function h(name, properties = {}, ...children) {
  const [tag, ...classes] = name.split(".");
  const element = document.createElement(tag);
  if (classes.length) element.className = classes.join(" ");
  for (const [key, value] of Object.entries(properties ?? {})) set(element, key, value);
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

function set(element, key, value) {
  if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
  else if (key === "dataset") Object.assign(element.dataset, value);
  else if (value === true) element.setAttribute(key, "");
  else if (value !== false && value !== null && value !== undefined) element.setAttribute(key, value);
}

const SVG = "http://www.w3.org/2000/svg";

/** A picture of the sprite, as the template tag `icon` draws it. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `${document.body.dataset.icons}#${name}`);
  svg.append(use);
  return svg;
}

/** Text as a textarea has it: with "\n" alone. That of the admin's forms has "\r\n". */
export const asTyped = (text) => text.replace(/\r\n?/g, "\n");

/** Sets text only where it differs, so that an unchanged patch touches nothing (selection, screen reader). */
export function setText(element, text) {
  const wanted = text ?? "";
  if (element.textContent !== wanted) element.textContent = wanted;
}

/** Sets a data attribute only where it differs. */
export function setData(element, name, value) {
  if (element.dataset[name] !== String(value)) element.dataset[name] = value;
}

/** Switches a class only where it differs: the attribute would be written anyway. */
export function setClass(element, name, on) {
  if (element.classList.contains(name) !== Boolean(on)) element.classList.toggle(name);
}

/**
 * Makes the children of `parent` those of `items`, in order, reusing the elements that are there.
 * `keyOf(item)` names an item, `make(item)` builds its element, `update(element, item)` fills it.
 * Elements that stay in order are not moved, so focus, scroll and a drag in progress survive.
 * With a `pool` (see keyed) several parents share their elements; the caller removes those that are left in it.
 */
export function reconcile(parent, items, { keyOf, make, update, pool = null }) {
  const existing = pool ?? keyed(parent);
  const wanted = items.map((item) => {
    const key = String(keyOf(item));
    const found = existing.get(key);
    existing.delete(key);
    const element = found ?? make(item);
    if (!found) element.dataset.key = key;
    update?.(element, item, !found);
    return element;
  });
  if (!pool) for (const left of existing.values()) left.remove();
  placeInOrder(parent, wanted);
}

/** Map of key -> element, of the children of these parents that reconcile made or may reuse. */
export function keyed(...parents) {
  const children = parents.flatMap((parent) => [...parent.children]);
  return new Map(children.filter((child) => child.dataset.key !== undefined).map((child) => [child.dataset.key, child]));
}

/** Puts `wanted` into this order under `parent`. Only those move that have to: the longest run in order stays. */
export function placeInOrder(parent, wanted) {
  const current = new Map([...parent.children].map((child, place) => [child, place]));
  const still = longestIncreasing(wanted.map((element) => current.get(element) ?? -1));
  let next = null;
  for (let place = wanted.length - 1; place >= 0; place -= 1) {
    const element = wanted[place];
    if (!still.has(place)) keepFocus(element, () => parent.insertBefore(element, next));
    next = element;
  }
}

/** The indexes of a longest strictly increasing subsequence of `numbers`, those below 0 left out. */
function longestIncreasing(numbers) {
  const tails = [];
  const before = [];
  for (const [index, number] of numbers.entries()) {
    if (number < 0) continue;
    let low = 0;
    let high = tails.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (numbers[tails[middle]] < number) low = middle + 1;
      else high = middle;
    }
    before[index] = low ? tails[low - 1] : -1;
    tails[low] = index;
  }
  const kept = new Set();
  for (let index = tails.at(-1) ?? -1; index >= 0; index = before[index]) kept.add(index);
  return kept;
}

function keepFocus(element, move) {
  const focused = element.contains(document.activeElement) ? document.activeElement : null;
  move();
  if (focused && document.activeElement !== focused) focused.focus({ preventScroll: true });
}

/** Whether the reader has selected something that begins in this element, and may be about to copy it. */
export function holdsSelection(element) {
  const { isCollapsed, anchorNode } = getSelection();
  return !isCollapsed && element.contains(anchorNode);
}

/** How a page moves to somewhere else: gliding, unless the reader wants no motion. */
export const glide = () => (matchMedia("(prefers-reduced-motion: reduce)").matches ? "instant" : "smooth");

let announcing = 0;

/** Says `text` to a screen reader, politely; the same text twice is said twice. */
export function announce(text) {
  const region = document.getElementById("announcer");
  clearTimeout(announcing);
  region.textContent = "";
  announcing = setTimeout(() => (region.textContent = text), 30);
}

/** Calls `f` once in the next frame, however often it was asked to; in a hidden page, soon. */
export function inNextFrame(f) {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    const run = () => {
      asked = false;
      f();
    };
    if (document.visibilityState === "visible") requestAnimationFrame(run);
    else setTimeout(run, 0);
  };
}

/** A hue (degrees) that stays with the word; the template filter `hue` computes the same. */
export function hue(word) {
  const sum = [...word].reduce((total, letter, place) => total + (place + 1) * letter.codePointAt(0), 0);
  return ((sum * 37) % 12) * 30;
}
