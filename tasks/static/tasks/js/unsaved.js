// The browser asks before it leaves a page with words in it that are kept nowhere else.

const unsaved = [];

/** `holdsWords()` says whether there are such words now. */
export const askToLeave = (holdsWords) => unsaved.push(holdsWords);

window.addEventListener("beforeunload", (event) => unsaved.some((holdsWords) => holdsWords()) && event.preventDefault());
