/** Searches a whole log on the server; hits arrive while it still reads, and leaving off cancels it there. */

/** More hits than this are counted but not kept. */
export const KEPT_HITS = 2_000;

/**
 * @param {string} url of the search
 * @param {{text: string, regex: boolean, matchCase: boolean}} query
 * @param {AbortSignal} signal
 * @param {(message: object) => void} onMessage gets `{line, content}` for each hit, then `{done: true, …}`
 */
export async function searchLog(url, query, signal, onMessage) {
  const parameters = new URLSearchParams({
    q: query.text, regex: query.regex ? "1" : "0", case: query.matchCase ? "1" : "0",
  });
  const response = await fetch(`${url}?${parameters}`, { signal, headers: { Accept: "application/x-ndjson" } }).catch((error) => {
    throw signal.aborted ? error : new Error("The server can't be reached.");
  });
  if (!response.ok) throw new Error(await problem(response));
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    const lines = (rest + (value ?? "")).split("\n");
    rest = done ? "" : lines.pop();
    for (const line of lines) if (line) onMessage(JSON.parse(line));
    if (done) return;
  }
}

async function problem(response) {
  const body = await response.json().catch(() => ({}));
  return typeof body.detail === "string" ? body.detail : `The search failed (${response.status}).`;
}

/** The search as a regular expression over one line, or null where the pattern is none. */
export function pattern({ text, regex, matchCase }) {
  try {
    return new RegExp(regex ? text : text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"), matchCase ? "gu" : "giu");
  } catch {
    return null;
  }
}

/** Marks what a pattern matches in some elements, without touching them. */
export function markMatches(name, elements, expression) {
  if (!globalThis.CSS?.highlights) return;
  const ranges = expression ? elements.flatMap((element) => matches(element, expression)) : [];
  if (ranges.length) CSS.highlights.set(name, new Highlight(...ranges));
  else CSS.highlights.delete(name);
}

function matches(element, expression) {
  const nodes = [];
  const walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
  let length = 0;
  while (walker.nextNode()) {
    nodes.push({ node: walker.currentNode, from: length });
    length += walker.currentNode.length;
  }
  const at = (offset) => {
    const place = nodes.findLast(({ from }) => from <= offset);
    return [place.node, offset - place.from];
  };
  return [...element.textContent.matchAll(expression)]
    .filter((match) => match[0])
    .map((match) => {
      const range = new Range();
      range.setStart(...at(match.index));
      range.setEnd(...at(match.index + match[0].length));
      return range;
    });
}
