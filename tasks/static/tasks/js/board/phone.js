// On a narrow screen one column is seen at a time: tabs above it follow the swipe, and lead it.

import { find, findAll, glide } from "../dom.js";

export function initPhone() {
  const columns = find("#columns");
  const tabs = findAll(".column-tab");
  for (const tab of tabs) {
    tab.addEventListener("click", () => {
      columns.scrollTo({ left: find(`#column-${tab.dataset.status}`).offsetLeft - columns.offsetLeft, behavior: glide() });
    });
    tab.addEventListener("keydown", (event) => walk(event, tabs));
  }
  columns.addEventListener("scroll", () => follow(columns, tabs), { passive: true });
  follow(columns, tabs);
}

function follow(columns, tabs) {
  const place = Math.round(columns.scrollLeft / Math.max(1, columns.clientWidth));
  tabs.forEach((tab, index) => {
    const selected = String(index === place);
    if (tab.getAttribute("aria-selected") === selected) return;
    tab.setAttribute("aria-selected", selected);
    tab.tabIndex = index === place ? 0 : -1;
    if (index === place) tab.parentElement.scrollTo({ left: tab.offsetLeft - 60, behavior: glide() });
  });
}

function walk(event, tabs) {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  const next = tabs[(tabs.indexOf(event.target) + step + tabs.length) % tabs.length];
  next.click();
  next.focus();
  event.preventDefault();
}
