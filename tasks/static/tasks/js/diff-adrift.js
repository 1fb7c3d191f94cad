// Comments on files that do not differ any more: no line is left to show them under, but they are sent all the same.

import { find, h, reconcile, setText } from "./dom.js";

export class AdriftComments {
  constructor(comments) {
    this.comments = comments;
    this.element = h("section.diff-adrift", { hidden: true, "aria-label": "Comments on files without changes" });
  }

  /** @param {(path: string) => boolean} differs */
  draw(differs) {
    const adrift = this.comments.all.filter(({ file }) => !differs(file));
    this.element.hidden = !adrift.length;
    reconcile(this.element, adrift, {
      keyOf: ({ id }) => id,
      make: (comment) => this.#make(comment),
      update: (box, { text }) => setText(find(".diff-comment-text", box), text),
    });
  }

  #make(comment) {
    const remove = () => this.comments.remove(comment);
    return h(
      "div.diff-comment-box", {},
      h("p.diff-comment-text"),
      h("p.diff-comment-foot", {},
        h("span.count", {}, h("span.mono", {}, comment.file), ` does not differ any more · line ${comment.line} · goes to the agent with the next follow-up`),
        h("button.button.button-small.button-quiet.is-danger", { type: "button", onclick: remove }, "Remove")),
    );
  }
}
