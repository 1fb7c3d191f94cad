// What every page has: the line's sign, menus, dialogs, look, shortcuts.

import { initDialogs, initLook, initMenus } from "./components.js";
import { findAll } from "./dom.js";
import { initLine } from "./line-status.js";
import { initNotifications } from "./notifications.js";
import { initShortcuts, showHelp } from "./shortcuts.js";

initLine();
initMenus();
initDialogs();
initLook();
initShortcuts();
initNotifications();

for (const button of findAll("[data-action=shortcuts]")) button.addEventListener("click", () => showHelp());
