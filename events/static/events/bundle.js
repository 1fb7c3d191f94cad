// What finds no place of its own (see connection-slots.js) travels with others of all tabs on one connection.
//
// Each page with such a source asks for one Web Lock; who holds it leads: it asks what everybody wants, opens one
// EventSource for all of it, and hands each what comes for it. When the leader goes, even by a crash, the browser gives
// the lock to the next, who asks everybody again from where they stand. A source takes messages only from who asked last
// and has told that one where it stood, so that a change of leader neither loses nor doubles anything.
//
// Each source holds a Web Lock, too, by which the leader sees that it is gone.

const ADDRESS = "/api/events/bundle";
const LEAD = "vibe.bundle";
/** What a server takes (events/api.py), and what fits into the first line of a request: nginx allows 8 KB. */
const MOST = 50;
const LONGEST = 7_000;
/** Milliseconds: pages that open or close together cost one new connection. */
const GATHER = 20;

const name = (id) => `${LEAD} ${id}`;

/** The address to go on from a cursor. */
export function addressAt(url, cursor) {
  return cursor ? `${url}${url.includes("?") ? "&" : "?"}cursor=${encodeURIComponent(cursor)}` : url;
}

/** As an EventSource, for the names of events that it was made with. */
export class BundledSource extends EventTarget {
  onopen = null;
  onerror = null;
  #id = crypto.randomUUID();
  #wanted;
  #leader = null;
  #common = new BroadcastChannel(LEAD);
  #own = new BroadcastChannel(name(this.#id));
  #joined = false;
  #closed = false;
  #release;

  constructor(url, cursor, names) {
    super();
    this.#wanted = { id: this.#id, url, cursor, names };
    this.#own.onmessage = ({ data }) => this.#take(data);
    const held = new Promise((release) => (this.#release = release));
    navigator.locks.request(name(this.#id), () => {
      if (this.#closed) return undefined;
      this.#common.onmessage = ({ data }) => data.asks && this.#tell(data.asks);
      this.#joined = true;
      lead.join();
      this.#tell(null);
      return held;
    });
  }

  #tell(leader) {
    this.#leader = leader;
    this.#common.postMessage({ ...this.#wanted, seen: document.visibilityState === "visible" });
  }

  #take({ leader, type, data, lastEventId }) {
    this.#leader ??= leader;
    if (this.#closed || leader !== this.#leader) return;
    if (type === "open") return this.onopen?.();
    if (type === "error") return this.onerror?.();
    if (lastEventId && type !== "heartbeat") this.#wanted.cursor = lastEventId;
    this.dispatchEvent(new MessageEvent(type, { data, lastEventId }));
  }

  close() {
    if (this.#closed) return;
    this.#closed = true;
    this.#common.close();
    this.#own.close();
    if (this.#joined) lead.part();
    this.#release();
  }
}

/** Asks for the lead as long as this page has sources of its own. */
class Lead {
  #sources = 0;
  #asking = null;

  join() {
    this.#sources += 1;
    if (this.#sources === 1) this.ask();
  }

  part() {
    this.#sources -= 1;
    if (this.#sources === 0) this.#asking.abort();
  }

  /** Gives up the lead, if this page has it, and stands in line for it behind all others. */
  ask() {
    this.#asking?.abort();
    this.#asking = new AbortController();
    const { signal } = this.#asking;
    navigator.locks.request(LEAD, { signal }, () => led(signal)).catch((error) => {
      if (error.name !== "AbortError") throw error;
    });
  }
}

const lead = new Lead();

async function led(signal) {
  if (signal.aborted) return;
  const leader = new Leader(signal);
  await new Promise((ended) => signal.addEventListener("abort", ended));
  leader.close();
}

class Leader {
  #id = crypto.randomUUID();
  #signal;
  #common = new BroadcastChannel(LEAD);
  #members = new Map();
  /** Whom the connection is for. */
  #carried = new Set();
  #source = null;
  #timer = null;

  constructor(signal) {
    this.#signal = signal;
    document.addEventListener("visibilitychange", () => hidden() && lead.ask(), { signal });
    this.#common.onmessage = ({ data }) => data.url && this.#admit(data);
    this.#common.postMessage({ asks: this.#id });
  }

  close() {
    clearTimeout(this.#timer);
    this.#source?.close();
    this.#common.close();
    for (const member of this.#members.values()) member.channel.close();
  }

  #admit({ id, url, cursor, names, seen }) {
    // A hidden page may be frozen: it leads only where no other could.
    if (hidden() && seen) return lead.ask();
    if (this.#members.has(id)) return;
    const member = { id, url, cursor, names, opened: false, channel: new BroadcastChannel(name(id)) };
    this.#members.set(id, member);
    const gone = () => this.#remove(member) && this.#openSoon();
    navigator.locks.request(name(id), { signal: this.#signal }, gone).catch((error) => {
      if (error.name !== "AbortError") throw error;
    });
    this.#openSoon();
  }

  #remove(member) {
    member.channel.close();
    return this.#members.delete(member.id);
  }

  #openSoon() {
    if (!this.#signal.aborted) this.#timer ??= setTimeout(() => this.#open(), GATHER);
  }

  /** Opens one connection for all, each from where it stands, in place of the one before, if that was for others. */
  #open() {
    this.#timer = null;
    const [address, parts] = this.#fitting();
    if (parts.length === this.#carried.size && parts.every((one) => this.#carried.has(one))) return;
    this.#source?.close();
    this.#carried = new Set(parts);
    if (!parts.length) return;
    const source = (this.#source = new EventSource(address));
    let part = null;
    source.addEventListener("stream", ({ data }) => this.#opened((part = parts[Number(data)])));
    source.addEventListener("ended", ({ data }) => {
      const ended = parts[JSON.parse(data).stream];
      this.#carried.delete(ended);
      this.#fail(ended);
    });
    source.onerror = () => {
      source.close();
      this.#carried.clear();
      parts.forEach((one) => this.#fail(one));
    };
    for (const type of new Set(parts.flatMap(({ names }) => names))) {
      source.addEventListener(type, ({ data, lastEventId }) => {
        if (lastEventId && type !== "heartbeat") part.cursor = lastEventId;
        this.#say(part, { type, data, lastEventId });
      });
    }
  }

  /** The address of a bundle and its parts; who finds no room in it is told so, and will try again. */
  #fitting() {
    let address = ADDRESS;
    const parts = [];
    for (const member of [...this.#members.values()]) {
      const part = encodeURIComponent(addressAt(member.url, member.cursor).replace(/^\/api\/events\//, "./"));
      const longer = `${address}${parts.length ? "&" : "?"}stream=${part}`;
      if (parts.length === MOST || longer.length > LONGEST) {
        this.#fail(member);
      } else {
        address = longer;
        parts.push(member);
      }
    }
    return [address, parts];
  }

  #opened(member) {
    if (!member.opened) this.#say(member, { type: "open" });
    member.opened = true;
  }

  #fail(member) {
    this.#say(member, { type: "error" });
    this.#remove(member);
  }

  #say(member, message) {
    if (this.#members.has(member.id)) member.channel.postMessage({ leader: this.#id, ...message });
  }
}

function hidden() {
  return document.visibilityState === "hidden";
}
