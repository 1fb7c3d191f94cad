// An EventSource that a page can leave alone.
//
// The contract:
//  - Every message arrives once and in order. A new connection resumes with ?cursor=<last id>.
//  - A line that breaks is opened again after an exponential backoff with full jitter; a line on which nothing,
//    not even a heartbeat, arrived for too long counts as broken.
//  - A native EventSource ends for good at any status but 200 and does not say which: HEAD tells a sign-out (401),
//    a stream that is no more (403, 404) and one that has ended (204) from a server that is restarting.
//  - A hidden page lets go of its connection and resumes when it is shown; so does one that leaves (pagehide).
//  - Over HTTP/1.1 a browser opens six connections to a host: see connection-slots.js and bundle.js, and company.js
//    for tabs that read the same stream.

import { addressAt, BundledSource } from "./bundle.js";
import { Company } from "./company.js";
import { takeSlot } from "./connection-slots.js";

const FIRST_DELAY = 400;
const LONGEST_DELAY = 15_000;
const STEADY = 5_000;
const HIDDEN_GRACE = 400;

/**
 * Events (CustomEvent, by addEventListener):
 *  - "message": {type, data, id}: type is "message" or one of `names`; data is the text as it came
 *  - "state": {state, retryAt}: see `state`; retryAt is in milliseconds since 1970, or null
 *
 * States: idle, connecting, live, reconnecting (until retryAt), offline (the same, and the browser says there is
 * no network), paused (the page is hidden), signedout, gone (no such stream for this reader), finished.
 */
export class EventSourceManager extends EventTarget {
  #url;
  #names;
  #silence;
  #keepHidden;
  #company = null;
  #source = null;
  #slot = null;
  #state = "idle";
  #retryAt = null;
  #attempt = 0;
  #timer = null;
  #watchdog = null;
  #hiding = null;
  #seen = 0;
  #generation = 0;
  #leaving = new AbortController();

  /**
   * @param {string} url with its query, without a cursor
   * @param {object} options cursor: the id to resume after; names: further event names to pass on ("finished");
   *   heartbeatSeconds: the server's beat, 15 by default; keepHidden: (manager) => true where a hidden page stays connected;
   *   share: let one tab carry others that read the same stream; only for streams whose every message has an id
   */
  constructor(url, { cursor = null, names = [], heartbeatSeconds, keepHidden = () => false, share = false } = {}) {
    super();
    this.cursor = cursor;
    this.#url = url;
    this.#names = [...new Set(["message", "heartbeat", "finished", "reset", ...names])];
    const beat = heartbeatSeconds ?? Number(document.body.dataset.heartbeat || 15);
    this.#silence = Math.max(1_500, beat * 2_500);
    this.#keepHidden = keepHidden;
    if (share) this.#company = new Company(url, (said) => this.#overhear(said));
  }

  get url() {
    return this.#url;
  }

  get state() {
    return this.#state;
  }

  get retryAt() {
    return this.#retryAt;
  }

  /** Connects, and stays so until close() or the stream's end. */
  start() {
    const on = (target, name, f) => target.addEventListener(name, f, { signal: this.#leaving.signal });
    on(document, "visibilitychange", () => this.#visibility());
    on(window, "pagehide", () => this.#pause());
    on(window, "pageshow", () => this.reconsider()); // also comes once to a page that was opened in the background
    on(window, "online", () => this.retryNow());
    on(window, "offline", () => this.#suspect());
    this.#keepHidden(this);
    if (this.#hidden()) this.#end("paused");
    else this.#connect();
    return this;
  }

  /** Ends it for good. */
  close() {
    this.#leaving.abort();
    this.#end("idle");
    this.#company?.close();
  }

  /** Tries at once instead of at retryAt. */
  retryNow() {
    if (["reconnecting", "offline", "signedout"].includes(this.#state)) this.#connect();
  }

  /** What keepHidden says has changed: a hidden page may have to connect after all. */
  reconsider() {
    if (!this.#hidden()) this.#resume();
  }

  /** Starts over from `cursor` (null: from the first). */
  restart(cursor) {
    this.cursor = cursor;
    if (this.#state === "paused") return;
    this.#set("connecting");
    this.#connect();
  }

  async #connect() {
    this.#drop();
    const generation = this.#generation;
    if (!["reconnecting", "offline", "live"].includes(this.#state)) this.#set("connecting");
    this.#company?.leave();
    this.#company?.ask();
    const slot = await takeSlot();
    if (generation !== this.#generation) return slot?.release();
    this.#slot = slot;
    const source = slot ? new EventSource(this.#address()) : new BundledSource(this.#url, this.cursor, this.#names);
    this.#source = source;
    this.#beat();
    source.onopen = () => this.#opened();
    source.onerror = () => this.#broken();
    for (const name of this.#names) source.addEventListener(name, (event) => this.#receive(name, event));
  }

  #address() {
    return addressAt(this.#url, this.cursor);
  }

  #opened() {
    this.#beat();
    this.#set("live");
    this.#carry();
    // A server that accepts and hangs up at once must not be asked in a tight loop.
    this.#timer = setTimeout(() => (this.#attempt = 0), STEADY);
  }

  #receive(type, event) {
    this.#beat();
    if (this.#state !== "live") this.#set("live");
    if (type === "heartbeat") return this.#tell();
    const message = { before: this.cursor, id: event.lastEventId, type, data: event.data };
    if (message.id) this.cursor = message.id;
    this.#company?.tell(message);
    this.#pass(message);
  }

  #carry() {
    this.#company?.carry(() => this.#tell());
  }

  /** Tells other tabs where this one stands, if it is connected. */
  #tell() {
    if (this.#source && this.cursor) this.#company?.tell({ before: this.cursor, id: this.cursor });
  }

  /** Another tab tells of this stream (see company.js). */
  #overhear({ ask, before, id, type, data, rank, carries }) {
    if (ask) return this.#tell();
    if (!this.cursor || !["connecting", "live", "reconnecting", "offline"].includes(this.#state)) return;
    if (before === this.cursor && type && !this.#source) {
      this.cursor = id;
      this.#pass({ type, data, id });
    }
    const mine = rank === this.#company.carrier;
    if (id !== this.cursor) return mine ? this.#connect() : undefined;
    if (mine) this.#beat();
    else if (this.#source && rank < this.#company.rank && document.visibilityState === "visible") this.#tell();
    else if (carries && this.#company.carrier === null) this.#follow(rank);
  }

  /** Lets another tab that stands where this one stands do the receiving. */
  #follow(rank) {
    this.#drop();
    this.#attempt = 0;
    this.#company.follow(rank, () => this.#connect());
    this.#beat();
    this.#set("live");
  }

  #pass({ type, data, id }) {
    this.dispatchEvent(new CustomEvent("message", { detail: { type, data, id } }));
    if (type === "finished") this.#end("finished");
  }

  async #broken() {
    this.#drop();
    this.#company?.part();
    const generation = this.#generation;
    const delay = this.#backoff();
    this.#wait(delay);
    const status = await this.#probe();
    if (generation !== this.#generation) return;
    if (status === 204) this.#end("finished");
    else if (status === 401) this.#signedOut();
    else if (status === 403 || status === 404) this.#end("gone");
    else if (status === 429) this.#wait(Math.max(delay, 5_000));
  }

  /** Full jitter: after a restart of the server its readers come back spread out, not all at once. */
  #backoff() {
    const most = Math.min(LONGEST_DELAY, FIRST_DELAY * 2 ** this.#attempt);
    this.#attempt += 1;
    return most * (0.4 + 0.6 * Math.random());
  }

  #wait(delay) {
    clearTimeout(this.#timer);
    this.#retryAt = Date.now() + delay;
    this.#timer = setTimeout(() => this.#connect(), delay);
    this.#set(navigator.onLine ? "reconnecting" : "offline", true);
  }

  /** The status that the address answers with, 0 where nobody answers. */
  async #probe() {
    try {
      const signal = AbortSignal.timeout(4_000);
      const answer = await fetch(this.#address(), { method: "HEAD", cache: "no-store", redirect: "manual", signal });
      return answer.status;
    } catch {
      return 0;
    }
  }

  /** The browser says the network went away; a server on this machine is still there, so ask it. */
  async #suspect() {
    if (this.#state !== "live") return;
    const generation = this.#generation;
    if ((await this.#probe()) === 0 && generation === this.#generation) this.#broken();
  }

  /** Signed out: the page says so, and looks now and then whether somebody signed in in another tab. */
  #signedOut() {
    this.#end("signedout");
    const generation = this.#generation;
    this.#timer = setTimeout(async () => {
      const status = await this.#probe();
      if (generation !== this.#generation) return;
      if (status === 401) this.#signedOut();
      else this.#connect();
    }, LONGEST_DELAY);
  }

  #beat() {
    this.#seen = Date.now();
    this.#watchdog ??= setInterval(() => this.#watch(), Math.min(1_000, this.#silence / 2));
  }

  #watch() {
    // Where the clock was put back, nobody can tell for how long nothing came.
    if (Math.abs(Date.now() - this.#seen) <= this.#silence) return;
    if (this.#source) this.#broken();
    else this.#connect(); // the tab that carries this one has fallen silent
  }

  #hidden() {
    return document.visibilityState === "hidden" && !this.#keepHidden(this);
  }

  #visibility() {
    clearTimeout(this.#hiding);
    if (document.visibilityState === "visible") {
      this.#resume();
      if (this.#source) this.#carry();
    } else {
      this.#hiding = setTimeout(() => (this.#hidden() ? this.#pause() : this.#company?.rest()), HIDDEN_GRACE);
    }
  }

  #pause() {
    if (this.#over()) return;
    this.#end("paused");
  }

  #resume() {
    if (this.#state !== "paused") return;
    this.#attempt = 0;
    this.#connect();
  }

  #over() {
    return ["idle", "finished", "gone", "paused"].includes(this.#state);
  }

  #end(state) {
    this.#drop();
    this.#company?.part();
    this.#retryAt = null;
    this.#set(state, true);
  }

  #drop() {
    this.#generation += 1;
    clearTimeout(this.#timer);
    clearInterval(this.#watchdog);
    this.#watchdog = null;
    this.#source?.close();
    this.#source = null;
    this.#slot?.release();
    this.#slot = null;
  }

  #set(state, always = false) {
    if (state === "live") this.#retryAt = null;
    if (state === this.#state && !always) return;
    this.#state = state;
    this.dispatchEvent(new CustomEvent("state", { detail: { state, retryAt: this.#retryAt } }));
  }
}
