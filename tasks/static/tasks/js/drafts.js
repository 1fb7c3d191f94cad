// Words that are written and not sent yet, kept in this browser under the id of what they are for.

import { storage } from "./storage.js";

const key = (id) => `vibe.draft.${id}`;

/** What was written, or "". */
export const draftOf = (id) => storage.getItem(key(id)) ?? "";

export function keepDraft(id, words) {
  if (words) storage.setItem(key(id), words);
  else storage.removeItem(key(id));
}
