/**
 * A line of terminal output as styled runs of text.
 *
 * Colours (16, 256 and true colour) and the usual attributes are kept; `\r`, `\b` and the sequences that
 * move within the line overwrite what stood there, as a terminal does it, so that a progress bar shows its
 * last state; every other sequence and control character is dropped. Text stays text: nothing here makes HTML.
 *
 * Sequences: ECMA-48; colours: xterm's ctlseqs (`38;5;n`, `38;2;r;g;b`, also with colons).
 */

/** More than this of one line is not drawn until the reader asks for it, in UTF-16 units. */
export const SHOWN_LIMIT = 10_000;

const PLAIN = Object.freeze({});
// One sequence or one control character: CSI, OSC and other strings, two-character escapes, C0, DEL, C1.
const CONTROL =
  /\x1b\[([0-?]*)[ -/]*([@-~])|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\|$)|\x1b\[?[ -/]*[0-~]?|[\x00-\x08\x0a-\x1f\x7f-\x9f]/g;

/** No terminal is wider: a sequence that moves the cursor far would otherwise make that many blanks. */
const WIDEST = SHOWN_LIMIT;

const FLAGS = { 1: "bold", 2: "dim", 3: "italic", 4: "underline", 7: "inverse", 8: "hidden", 9: "strike" };
const FLAGS_OFF = {
  22: ["bold", "dim"], 23: ["italic"], 24: ["underline"], 27: ["inverse"], 28: ["hidden"], 29: ["strike"],
};

/**
 * @param {string} text one line, without its line end
 * @returns {{text: string, style: Style}[]} runs in order; a style is a frozen object with any of
 *   `fg`, `bg` (0 to 255, or "rgb(r, g, b)"), `bold`, `dim`, `italic`, `underline`, `inverse`, `hidden`, `strike`
 */
export function parseLine(text) {
  if (!/[\x00-\x08\x0a-\x1f\x7f-\x9f]/.test(text)) return text ? [{ text, style: PLAIN }] : [];
  const line = new Line();
  let style = PLAIN;
  let end = 0;
  for (const match of text.matchAll(CONTROL)) {
    line.write(text.slice(end, match.index), style);
    end = match.index + match[0].length;
    if (match[2] === "m") style = restyle(style, match[1]);
    else if (match[2]) line.move(match[2], match[1]);
    else if (match[0] === "\r") line.column = 0;
    else if (match[0] === "\b") line.column = Math.max(0, line.column - 1);
  }
  line.write(text.slice(end), style);
  return line.runs();
}

/** The text alone, as it would stand on the screen. */
export function plainText(text) {
  return parseLine(text).map((run) => run.text).join("");
}

/** What of a very long line is drawn: its start, or its end where it overwrites itself. */
export function clip(text, limit = SHOWN_LIMIT) {
  if (text.length <= limit) return text;
  return text.includes("\r") ? text.slice(-limit) : text.slice(0, limit);
}

/** Cells of one terminal line. It is as wide as what was written to it. */
class Line {
  constructor() {
    this.characters = [];
    this.styles = [];
    this.column = 0;
  }

  write(text, style) {
    for (const character of text) {
      while (this.characters.length < this.column) this.#put(this.characters.length, " ", PLAIN);
      this.#put(this.column, character, style);
      this.column += 1;
    }
  }

  #put(column, character, style) {
    this.characters[column] = character;
    this.styles[column] = style;
  }

  move(command, parameters) {
    const count = Number.parseInt(parameters, 10) || 0;
    if (command === "C") this.column = Math.min(this.column + (count || 1), WIDEST);
    else if (command === "D") this.column = Math.max(0, this.column - (count || 1));
    else if (command === "G") this.column = Math.min(Math.max(0, count - 1), WIDEST);
    else if (command === "K") this.#erase(count);
    else if (command === "J" && count === 2) this.#erase(2);
  }

  #erase(mode) {
    if (mode === 0) {
      this.characters.length = this.styles.length = Math.min(this.column, this.characters.length);
      return;
    }
    const until = mode === 1 ? Math.min(this.column + 1, this.characters.length) : this.characters.length;
    if (mode === 2) this.characters.length = this.styles.length = 0;
    else for (let i = 0; i < until; i += 1) this.#put(i, " ", PLAIN);
  }

  runs() {
    const runs = [];
    this.characters.forEach((character, i) => {
      const last = runs.at(-1);
      if (last && last.style === this.styles[i]) last.text += character;
      else runs.push({ text: character, style: this.styles[i] });
    });
    return runs;
  }
}

function restyle(style, parameters) {
  const next = { ...style };
  const codes = parameters.split(";");
  while (codes.length) {
    const [code, ...parts] = codes.shift().split(":").map((part) => Number(part) || 0);
    if (code === 38 || code === 48) extended(next, code === 38 ? "fg" : "bg", parts, codes);
    else simple(next, code);
  }
  return Object.keys(next).length ? Object.freeze(next) : PLAIN;
}

function simple(style, code) {
  if (code === 0) for (const key of Object.keys(style)) delete style[key];
  else if (FLAGS[code]) style[FLAGS[code]] = true;
  else if (code === 21) style.underline = true;
  else if (FLAGS_OFF[code]) for (const key of FLAGS_OFF[code]) delete style[key];
  else if (code >= 30 && code <= 37) style.fg = code - 30;
  else if (code >= 40 && code <= 47) style.bg = code - 40;
  else if (code >= 90 && code <= 97) style.fg = code - 82;
  else if (code >= 100 && code <= 107) style.bg = code - 92;
  else if (code === 39) delete style.fg;
  else if (code === 49) delete style.bg;
}

/** Sets a 256 or true colour from its own parts (`38:2::r:g:b`, `38:5:n`), or else from the codes that follow. */
function extended(style, key, parts, codes) {
  const take = (count) => codes.splice(0, count).map((code) => Number(code) || 0);
  const kind = parts.length ? parts[0] : take(1)[0];
  if (kind === 5) {
    const [index] = parts.length ? parts.slice(1) : take(1);
    style[key] = Math.min(index ?? 0, 255);
  } else if (kind === 2) {
    // Of five parts the second is the colour space, mostly left empty.
    const [r, g, b] = (parts.length ? parts.slice(parts.length > 4 ? 2 : 1) : take(3)).map((n) => Math.min(n, 255));
    style[key] = `rgb(${r ?? 0}, ${g ?? 0}, ${b ?? 0})`;
  }
}

/** The CSS colour of 16 to 255 of xterm's palette: a cube of six levels, then 24 greys. */
export function paletteColour(index) {
  if (index >= 232) {
    const grey = 8 + (index - 232) * 10;
    return `rgb(${grey}, ${grey}, ${grey})`;
  }
  const level = (n) => (n === 0 ? 0 : 55 + n * 40);
  const n = index - 16;
  return `rgb(${level(Math.floor(n / 36))}, ${level(Math.floor(n / 6) % 6)}, ${level(n % 6)})`;
}

/**
 * Fills an element with a line's runs. The first 16 colours are classes (`ansi-fg-1`), so that the theme
 * decides. The others are given through the CSSOM, which the page's policy allows: backgrounds exactly, and
 * text in their hue (`ansi-fg-exact`), dark or light enough to be read on the theme's surface.
 */
export function renderLine(element, text) {
  element.replaceChildren(
    ...parseLine(text).map((run) => {
      if (run.style === PLAIN) return document.createTextNode(run.text);
      const span = document.createElement("span");
      span.textContent = run.text;
      paint(span, run.style);
      return span;
    }),
  );
}

function paint(span, style) {
  for (const flag of Object.values(FLAGS)) if (style[flag]) span.classList.add(`ansi-${flag}`);
  const [fg, bg] = style.inverse ? [style.bg, style.fg] : [style.fg, style.bg];
  if (isExact(bg)) {
    span.style.backgroundColor = exact(bg);
    span.style.color = fg === undefined ? inkOn(exact(bg)) : exact(fg);
  } else if (bg !== undefined) {
    span.classList.add(`ansi-bg-${bg}`);
  }
  if (fg === undefined || isExact(bg)) return;
  if (!isExact(fg)) {
    span.classList.add(`ansi-fg-${fg}`);
  } else {
    span.classList.add("ansi-fg-exact");
    span.style.setProperty("--ink", exact(fg));
  }
}

const isExact = (colour) => typeof colour === "string" || colour >= 16;
const exact = (colour) => (typeof colour === "string" ? colour : colour < 16 ? `var(--ansi-${colour})` : paletteColour(colour));

/** Black or white, whichever can be read on a background. */
function inkOn(background) {
  const [r, g, b] = background.match(/\d+/g).map(Number);
  return 0.299 * r + 0.587 * g + 0.114 * b > 140 ? "#000" : "#fff";
}
