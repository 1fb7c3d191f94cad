/**
 * A file's unified diff as hunks of lines, and the arrangements the page shows. Pure: no DOM.
 *
 * A line is `{kind: "context"|"add"|"del", old, new, text, noEnd}`: its numbers on both sides (null where it
 * does not exist), its text without the mark, and whether the file ends there without a line end.
 */

const HUNK = /^@@+ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@+ ?(.*)$/;
const KINDS = { " ": "context", "+": "add", "-": "del", "": "context" };

/** A block of more lines than this is not searched for lines that differ in blanks only: cost is a product. */
const PAIRING_LIMIT = 400;

/** @returns {{header: string, section: string, oldStart: number, newStart: number, lines: object[]}[]} */
export function parseDiff(text) {
  const hunks = [];
  let hunk = null;
  let left = { old: 0, new: 0 };
  const rows = text.split("\n");
  if (rows.at(-1) === "") rows.pop();
  for (const row of rows) {
    const inside = hunk && (left.old > 0 || left.new > 0);
    const match = inside ? null : HUNK.exec(row);
    if (match) {
      left = { old: Number(match[2] ?? 1), new: Number(match[4] ?? 1) };
      hunk = start(match, row);
      hunks.push(hunk);
    } else if (hunk && row.startsWith("\\")) {
      if (hunk.lines.length) hunk.lines.at(-1).noEnd = true;
    } else if (inside) {
      addLine(hunk, left, row);
    }
  }
  return hunks.map(({ next, ...rest }) => rest);
}

function start(match, header) {
  const [oldStart, newStart] = [Number(match[1]), Number(match[3])];
  return { header, section: match[5], oldStart, newStart, lines: [], next: { old: oldStart, new: newStart } };
}

function addLine(hunk, left, row) {
  const kind = KINDS[row.slice(0, 1)];
  if (!kind) return;
  const line = { kind, old: null, new: null, text: row.slice(1), noEnd: false };
  for (const side of ["old", "new"]) {
    if (kind === (side === "old" ? "add" : "del")) continue;
    line[side] = hunk.next[side];
    hunk.next[side] += 1;
    left[side] -= 1;
  }
  hunk.lines.push(line);
}

/** Groups of consecutive lines: context alone, or a change with its deletions and additions. */
export function blocks(lines) {
  const groups = [];
  for (const line of lines) {
    const changed = line.kind !== "context";
    let group = groups.at(-1);
    // After an addition, a deletion begins another change.
    if (!group || group.changed !== changed || (line.kind === "del" && group.add.length)) {
      group = { changed, context: [], del: [], add: [] };
      groups.push(group);
    }
    group[line.kind].push(line);
  }
  return groups;
}

/** Lines in the order side by side shows them: `[left, right]`, null where a side has none. */
export function sideBySide(lines) {
  return blocks(lines).flatMap((group) => {
    if (!group.changed) return group.context.map((line) => [line, line]);
    const height = Math.max(group.del.length, group.add.length);
    return Array.from({ length: height }, (_, i) => [group.del[i] ?? null, group.add[i] ?? null]);
  });
}

/** The same hunks without changes of blanks alone; a hunk in which nothing else changed is left out. */
export function ignoreWhitespace(hunks) {
  return hunks
    .map((hunk) => ({ ...hunk, lines: blocks(hunk.lines).flatMap(withoutBlanks) }))
    .filter((hunk) => hunk.lines.some((line) => line.kind !== "context"));
}

function withoutBlanks(group) {
  if (!group.changed) return group.context;
  const { del, add } = group;
  if (del.length * add.length > PAIRING_LIMIT ** 2) return [...del, ...add];
  const squeeze = (line) => line.text.replace(/\s+/g, "");
  const lines = [];
  let [i, j] = [0, 0];
  for (const [a, b] of commonPairs(del.map(squeeze), add.map(squeeze))) {
    lines.push(...del.slice(i, a), ...add.slice(j, b));
    lines.push({ ...add[b], kind: "context", old: del[a].old });
    [i, j] = [a + 1, b + 1];
  }
  return [...lines, ...del.slice(i), ...add.slice(j)];
}

/** Index pairs of a longest common subsequence. */
function commonPairs(a, b) {
  const width = b.length + 1;
  const best = new Uint16Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i -= 1) {
    for (let j = b.length - 1; j >= 0; j -= 1) {
      best[i * width + j] =
        a[i] === b[j]
          ? best[(i + 1) * width + j + 1] + 1
          : Math.max(best[(i + 1) * width + j], best[i * width + j + 1]);
    }
  }
  const pairs = [];
  for (let i = 0, j = 0; i < a.length && j < b.length; ) {
    if (a[i] === b[j]) pairs.push([i++, j++]);
    else if (best[(i + 1) * width + j] >= best[i * width + j + 1]) i += 1;
    else j += 1;
  }
  return pairs;
}

/**
 * Where in a changed line the change is: for each deletion and the addition beside it, the part between
 * their common start and end, as `[from, to]` in UTF-16 units. Lines that share little get no mark.
 * @returns {Map<object, [number, number]>} by line
 */
export function changedParts(lines) {
  const parts = new Map();
  for (const { del, add } of blocks(lines)) {
    if (del.length !== add.length) continue;
    del.forEach((before, i) => {
      const [from, beforeEnd, afterEnd] = differing(before.text, add[i].text);
      const shared = before.text.length - (beforeEnd - from);
      if (shared < Math.max(before.text.length, add[i].text.length) / 3) return;
      if (beforeEnd > from) parts.set(before, [from, beforeEnd]);
      if (afterEnd > from) parts.set(add[i], [from, afterEnd]);
    });
  }
  return parts;
}

function differing(a, b) {
  let from = 0;
  while (from < a.length && from < b.length && a[from] === b[from]) from += 1;
  let end = 0;
  while (end < a.length - from && end < b.length - from && a[a.length - 1 - end] === b[b.length - 1 - end]) end += 1;
  return [from, a.length - end, b.length - end];
}

/**
 * Files as a tree of folders, a chain of folders with one child drawn as one.
 * @param {{file: string, additions: number, deletions: number}[]} files
 * @returns {{name: string, path: string, file: object|null, children: object[]}[]} folders first, by name
 */
export function fileTree(files) {
  const root = { children: new Map() };
  for (const file of files) {
    const parts = file.file.split("/");
    let node = root;
    parts.forEach((name, depth) => {
      const last = depth === parts.length - 1;
      const key = last ? `\0${name}` : name;
      if (!node.children.has(key)) {
        const path = parts.slice(0, depth + 1).join("/");
        node.children.set(key, { name, path, file: last ? file : null, children: new Map() });
      }
      node = node.children.get(key);
    });
  }
  return sorted(root);
}

function sorted(node) {
  return [...node.children.values()]
    .map((child) => {
      let folded = child;
      let { name } = child;
      while (!folded.file && folded.children.size === 1) {
        const [only] = folded.children.values();
        if (only.file) break;
        name = `${name}/${only.name}`;
        folded = only;
      }
      return { name, path: folded.path, file: folded.file, children: sorted(folded) };
    })
    .sort((a, b) => Boolean(a.file) - Boolean(b.file) || (a.name < b.name ? -1 : 1));
}

/** What a follow-up says about commented lines: each quoted with its place. */
export function reviewPrompt(comments, note = "") {
  const parts = comments.map(({ file, line, side, code, text }) => {
    const place = side === "old" ? `${file}, line ${line} before the change` : `${file}, line ${line}`;
    const fence = "`".repeat(Math.max(3, ...[...code.matchAll(/`+/g)].map((run) => run[0].length + 1)));
    return `${place}:\n${fence}\n${code}\n${fence}\n${text.trim()}`;
  });
  return [note.trim(), "Please address these review comments:", ...parts].filter(Boolean).join("\n\n");
}
