// Over HTTP/1.1 a browser opens six connections to a host, for all its tabs together: a seventh stream would make
// every further request of every tab hang. So all tabs of this browser share SLOTS places for streams, and two
// connections always stay free. While others wait, whoever has had a place for TURN gives it up and queues again;
// as each resumes from its exact cursor, taking turns costs a moment and loses nothing.
//
// A place is a Web Lock, which the browser frees when a tab dies, and whose queue is fair.

const SLOTS = 4;
const TURN = 1_000;
const LOOK = 250;
let choosing = Promise.resolve();
const name = (slot) => `vibe.stream.${slot}`;

/**
 * Waits for a place: {release()}. `yieldNow` is called when the place is wanted by others.
 * Where there are no Web Locks (plain http from another machine), a place is given at once.
 */
export async function takeSlot(yieldNow) {
  if (!navigator.locks || (await overHttp2())) return { release() {} };
  return new Promise((granted) => {
    // One after the other: the streams of a page begin together, and would all choose the same place.
    choosing = choosing.then(async () => {
      const slot = await leastWanted();
      navigator.locks.request(name(slot), () => new Promise((release) => granted(hold(slot, release, yieldNow))));
    });
  });
}

function hold(slot, release, yieldNow) {
  const since = Date.now();
  const timer = setInterval(async () => {
    if (Date.now() - since >= TURN && (await waiting(slot))) yieldNow();
  }, LOOK);
  return {
    release() {
      clearInterval(timer);
      release();
    },
  };
}

/** HTTP/2 and 3 carry a hundred streams on one connection: no need to share. */
function overHttp2() {
  return /^h[23]/.test(performance.getEntriesByType("navigation")[0]?.nextHopProtocol ?? "");
}

async function waiting(slot) {
  const { pending } = await navigator.locks.query();
  return pending.some((lock) => lock.name === name(slot));
}

async function leastWanted() {
  const { held, pending } = await navigator.locks.query();
  const wanted = Array(SLOTS).fill(0);
  for (const lock of [...held, ...pending]) {
    const place = Number(lock.name.split("vibe.stream.")[1]);
    if (place < SLOTS) wanted[place] += 1;
  }
  const least = Math.min(...wanted);
  const free = [...wanted.keys()].filter((place) => wanted[place] === least);
  return free[Math.floor(Math.random() * free.length)];
}
