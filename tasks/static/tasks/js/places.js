/** Places in a page as its address names them. Pure. */

/** `#L12` or `#L3-L9` as `[first, last]`, from 0, within `total` lines; null where it names none. */
export function lineRange(hash, total) {
  const match = /^#L(\d+)(?:-L?(\d+))?$/.exec(hash);
  if (!match || !total) return null;
  const numbers = [Number(match[1]), Number(match[2] ?? match[1])].map((n) => Math.min(Math.max(n, 1), total) - 1);
  return [Math.min(...numbers), Math.max(...numbers)];
}

/** The hash of lines [first, last], from 0. */
export function rangeHash([first, last]) {
  return first === last ? `#L${first + 1}` : `#L${first + 1}-L${last + 1}`;
}

/** `#file=src%2Fa.py` as a path, or null. */
export function fileOfHash(hash) {
  const match = /^#file=(.+)$/.exec(hash);
  if (!match) return null;
  try {
    return decodeURIComponent(match[1]);
  } catch {
    return null;
  }
}

export function fileHash(path) {
  return `#file=${encodeURIComponent(path)}`;
}
