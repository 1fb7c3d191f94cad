// Requests to the REST API with the session's cookie. Every failure is an ApiError in words for a person.

export class ApiError extends Error {
  /** `status` 0: the server was not reached or did not answer; `message` says whether something may have changed. */
  constructor(status, message, body = null) {
    super(message);
    this.status = status;
    this.body = body;
  }

  get unreachable() {
    return this.status === 0 || this.status === 502 || this.status === 503 || this.status === 504;
  }
}

const TIMEOUT = 20_000;
const LATE = "The server did not answer in time: look whether it was saved.";

/** The cookie's token: the one that the page was rendered with is no longer true after signing in anew elsewhere. */
function csrfToken() {
  return /(?:^|; )csrftoken=([^;]+)/.exec(document.cookie)?.[1] ?? document.body.dataset.csrf ?? "";
}

/** Sends JSON and gives the parsed answer (null for an empty one). Raises ApiError. */
export async function request(method, path, body, { timeout = TIMEOUT, signal } = {}) {
  const headers = { Accept: "application/json", "X-CSRFToken": csrfToken() };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const signals = [AbortSignal.timeout(timeout), signal].filter(Boolean);
  let response;
  let text;
  try {
    response = await fetch(path, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      credentials: "same-origin",
      signal: AbortSignal.any(signals),
    });
    text = await response.text();
  } catch (error) {
    if (signal?.aborted) throw error;
    if (response) throw new ApiError(0, "The line broke during the answer: look whether it was saved.");
    throw new ApiError(0, error.name === "TimeoutError" ? LATE : "The server can't be reached, so nothing was saved.");
  }
  return answer(response, text);
}

function answer(response, text) {
  let body = null;
  try {
    body = text ? JSON.parse(text) : null;
  } catch {
    body = null;
  }
  if (response.ok && (body !== null || !text)) return body;
  throw new ApiError(response.status, words(response, body), body);
}

function words(response, body) {
  if (response.status === 401) return "You are signed out. Sign in again to go on.";
  if (response.status === 404) return "It is no longer there.";
  const detail = body?.detail;
  if (typeof detail === "string") return detail;
  if (Array.isArray(detail)) return detail.map((one) => `${(one.loc ?? []).at(-1) ?? ""}: ${one.msg}`).join("; ");
  if (response.status === 403) return "You may not do this. If you signed in anew in another tab, reload this page.";
  if (response.ok) return "Something else answered in place of the server, so look whether it was saved.";
  if (response.status === 504) return LATE;
  if (response.status >= 502) return "The server is not ready, so nothing was saved.";
  return `The server refused this (${response.status}).`;
}

export const api = {
  get: (path, options) => request("GET", path, undefined, options),
  post: (path, body = {}, options) => request("POST", path, body, options),
  patch: (path, body, options) => request("PATCH", path, body, options),
  delete: (path, options) => request("DELETE", path, undefined, options),
};
