// What runs, attempts and moments are called. Pure.

const REASONS = { setupscript: "Setup", codingagent: "Agent", cleanupscript: "Cleanup", devserver: "Dev server" };
const STATES = {
  queued: "Queued", running: "Running", completed: "Completed", failed: "Failed", killed: "Stopped", interrupted: "Interrupted",
};

export const isActive = (run) => run.status === "running" || run.status === "queued";
export const stateName = (status) => STATES[status] ?? status;

/** Runs of the agent after the first of their attempt are follow-ups. */
export function runName(run, runs) {
  if (run.run_reason !== "codingagent") return REASONS[run.run_reason] ?? run.run_reason;
  const number = runs.filter((other) => other.run_reason === "codingagent").indexOf(run);
  return number > 0 ? `Follow-up ${number}` : "Agent";
}

/** {state, words} of an attempt: its outcome, or how its latest run stands. */
export function attemptState(attempt, runs) {
  if (attempt.outcome === "merged") return { state: "completed", words: "Merged" };
  if (attempt.outcome === "discarded") return { state: "killed", words: "Discarded" };
  const own = runs.filter((run) => run.run_reason !== "devserver");
  const run = own.find((one) => one.status === "running") ?? own.find((one) => one.status === "queued") ?? own.at(-1);
  if (!run) return { state: "queued", words: "Preparing" };
  if (run.status === "completed" && run.run_reason !== "setupscript") return { state: "review", words: "To review" };
  return { state: run.status, words: stateName(run.status) };
}

/** What a run's end was, in words, where it is worth a notice; else null. */
export function endNotice(run, name) {
  if (run.status === "failed") {
    const code = run.exit_code === null ? "could not be started or did not finish" : `ended with exit code ${run.exit_code}`;
    return { tone: "red", text: `${name} ${code}. The last lines of its output say more.` };
  }
  if (run.status === "interrupted") {
    return { tone: "amber", text: `${name} was interrupted: the program that watched over it died. What it changed is kept; a follow-up goes on from there.` };
  }
  return null;
}
