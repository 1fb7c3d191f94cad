// Times as people say them. Input: ISO 8601 text or milliseconds since 1970.

const ms = (time) => (typeof time === "number" ? time : Date.parse(time));

const rendered = document.body?.dataset.now; // a picture that is looked at by itself has no body
const arrived = performance.getEntriesByType("navigation")[0]?.responseStart ?? 0;
const ahead = rendered ? Date.now() - performance.now() + arrived - Number(rendered) : 0;

/** Now by the clock of the server, which rendered the page with its time: that of the browser may be wrong. */
export const now = () => Date.now() - ahead;

/** "42s", "3m 07s", "2h 15m", "3d 4h" between two moments. */
export function elapsed(from, to = now()) {
  const seconds = Math.max(0, Math.floor((ms(to) - ms(from)) / 1000));
  const pad = (number) => String(number).padStart(2, "0");
  if (seconds < 60) return `${seconds}s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)}m ${pad(seconds % 60)}s`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)}h ${pad(Math.floor((seconds % 3600) / 60))}m`;
  return `${Math.floor(seconds / 86_400)}d ${Math.floor((seconds % 86_400) / 3600)}h`;
}

/** "just now", "5 min ago", "yesterday", "12 Mar". */
export function ago(time) {
  const seconds = (now() - ms(time)) / 1000;
  if (seconds < 45) return "just now";
  if (seconds < 3600) return `${Math.max(1, Math.round(seconds / 60))} min ago`;
  if (seconds < 86_400) return `${Math.round(seconds / 3600)} h ago`;
  if (seconds < 172_800) return "yesterday";
  return new Date(ms(time)).toLocaleDateString(undefined, { day: "numeric", month: "short" });
}

/** The whole date and time, for a title. */
export const whole = (time) => new Date(ms(time)).toLocaleString();
