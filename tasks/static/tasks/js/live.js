// The page's copy of the records, kept true by the stream of changes.

import { EventSourceManager } from "../../events/event-source-manager.js";
import { applyPatch, PatchError } from "../../events/patch-document.js";
import { inNextFrame } from "./dom.js";
import { keepWatching } from "./notifications.js";

/**
 * Events (CustomEvent):
 *  - "change": once a frame, after the document has all changes that have come
 *  - "operation": {op, path, value}: each one that fits, after it was taken in
 */
export class LiveDocument extends EventTarget {
  /** Tells of a change in the next frame. */
  changed = inNextFrame(() => this.dispatchEvent(new CustomEvent("change")));

  /** `document` is the state at `cursor`, as the page was rendered; `url` the stream that goes on from there. */
  constructor(url, document, cursor) {
    super();
    this.document = document;
    this.manager = new EventSourceManager(url, { cursor, keepHidden: keepWatching, share: true });
    this.manager.addEventListener("message", ({ detail }) => detail.type === "message" && this.apply(JSON.parse(detail.data)));
  }

  start() {
    this.manager.start();
    return this;
  }

  table(name) {
    return this.document[name] ?? {};
  }

  /** Changes the document by one operation; false where that says nothing about it. Raises PatchError. */
  take(operation) {
    this.document = applyPatch(this.document, operation);
    return true;
  }

  /** Takes in an operation, as the stream says it; where it does not fit, the document starts over. */
  apply(operation) {
    let taken;
    try {
      taken = this.take(operation);
    } catch (error) {
      if (!(error instanceof PatchError)) throw error;
      console.error("A change does not fit this page's copy; it starts over.", operation, error);
      this.manager.restart(null);
      return;
    }
    if (taken) this.changed();
    this.dispatchEvent(new CustomEvent("operation", { detail: operation }));
  }
}
