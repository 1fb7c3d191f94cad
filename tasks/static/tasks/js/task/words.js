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
  if (run.status === "completed" && run.run_reason !== "setupscript") return { state: "review", words: "Needs review" };
  return { state: run.status, words: stateName(run.status) };
}

/**
 * What a run's end was, in words, where it is worth a notice; else null. `look` is a run whose output says why.
 * @returns {{tone: string, text: string, look: object|null}|null}
 */
export function endNotice(run, runs) {
  const name = runName(run, runs);
  if (run.status === "interrupted") {
    const text = `${name} was interrupted: the program that watched over it died. What it changed is kept; a follow-up goes on from there.`;
    return { tone: "amber", text, look: null };
  }
  if (run.status !== "failed") return null;
  const setup = runs.findLast((other) => other.run_reason === "setupscript" && other.created_at <= run.created_at);
  if (!run.started_at && setup?.status === "failed" && setup.exit_code !== null && setup !== run) {
    return { tone: "red", text: `${name} was not started, because the setup script failed${exitOf(setup)}.`, look: setup };
  }
  const how = run.exit_code === null ? " could not be started or did not finish" : ` failed${exitOf(run)}`;
  return { tone: "red", text: `${name}${how}. The last lines of its output may say more.`, look: null };
}

const exitOf = (run) => (run.exit_code ? ` (${endOf(run)})` : "");

/** How a run's program ended where it did not end well: "exit code 3", or "signal 9". */
export function endOf(run) {
  if (!run.exit_code) return "";
  return run.exit_code < 0 ? `signal ${-run.exit_code}` : `exit code ${run.exit_code}`;
}
