// Says what a project takes on disk, in the elements with data-disk="<address>". Counting takes a while.

import { api } from "./api.js";
import { findAll, setText } from "./dom.js";

const UNITS = ["bytes", "kB", "MB", "GB", "TB"];

export function size(bytes) {
  const step = Math.min(UNITS.length - 1, bytes ? Math.floor(Math.log10(bytes) / 3) : 0);
  const value = bytes / 1000 ** step;
  return `${value.toFixed(step && value < 10 ? 1 : 0)} ${UNITS[step]}`;
}

async function show(element) {
  try {
    const { logs, worktrees } = await api.get(element.dataset.disk);
    setText(element, `Logs take ${size(logs)}, worktrees ${size(worktrees)}.`);
  } catch (error) {
    setText(element, error.message);
  }
}

for (const element of findAll("[data-disk]")) show(element);
