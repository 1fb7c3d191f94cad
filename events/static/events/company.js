// Tabs that read the same stream from the same cursor need one connection among them: one tab carries the others.
//
// A connected tab tells what it receives, with the cursor before and after it. Whoever stands at the cursor before can
// take the message from there and loses nothing; whoever stands at the cursor after may let go of its own connection.
// Of two that are connected the one with the higher rank carries. A Web Lock tells the others when it is gone, even if
// its tab crashed; where there are no Web Locks (plain http from another machine), each tab stays connected itself.

const name = (rank) => `vibe.carrier ${rank}`;

export class Company {
  #channel;
  #release = null;
  #carries = false;
  #following = null;

  /** `heard` is called with what others tell: {ask: true}, or {before, id, type, data, rank, carries}. */
  constructor(url, heard) {
    this.rank = Math.random();
    this.carrier = null;
    this.#channel = new BroadcastChannel(`vibe.stream ${url}`);
    this.#channel.onmessage = ({ data }) => heard(data);
  }

  /** Asks those who are connected to say where they stand. */
  ask() {
    this.#channel.postMessage({ ask: true });
  }

  /** Tells a message that was received, or where this tab stands (`before` is `id` then, and there is no type). */
  tell(message) {
    // A hidden tab may be frozen by the browser: nobody is to depend on it.
    const carries = this.#carries && document.visibilityState === "visible";
    this.#channel.postMessage({ ...message, rank: this.rank, carries });
  }

  /** From now on others may depend on this tab, until `rest`; `ready` is called when that has begun. */
  carry(ready) {
    if (this.#release || !navigator.locks) return;
    const held = new Promise((release) => (this.#release = release));
    navigator.locks.request(name(this.rank), () => {
      this.#carries = this.#release !== null;
      ready();
      return held;
    });
  }

  /** Depends on the tab with this rank; `lost` is called when that is gone or carries no more. */
  follow(rank, lost) {
    this.part();
    this.carrier = rank;
    this.#following = new AbortController();
    const { signal } = this.#following;
    const gone = () => {
      if (!signal.aborted) lost();
    };
    navigator.locks.request(name(rank), { signal }, gone).catch((error) => {
      if (error.name !== "AbortError") throw error;
    });
  }

  /** Follows nobody. */
  leave() {
    this.#following?.abort();
    this.#following = null;
    this.carrier = null;
  }

  /** Carries nobody. */
  rest() {
    this.#release?.();
    this.#release = null;
    this.#carries = false;
  }

  /** Neither carries nor follows. */
  part() {
    this.leave();
    this.rest();
  }

  close() {
    this.part();
    this.#channel.close();
  }
}
