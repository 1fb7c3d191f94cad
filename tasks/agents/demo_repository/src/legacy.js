// An older counter, kept from before the move to Python.
export function count(text) {
  const counts = new Map();
  for (const word of text.split(/\s+/)) counts.set(word, (counts.get(word) ?? 0) + 1);
  return counts;
}
