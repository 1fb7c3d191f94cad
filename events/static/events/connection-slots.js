// Over HTTP/1.1 a browser opens six connections to a host, for all its tabs together: a seventh stream would make
// every further request of every tab hang. So all tabs of this browser share PLACES for streams, what finds none
// travels on one connection with others (bundle.js), and two connections always stay free.
//
// A place is a Web Lock, which the browser frees when a tab dies.

const PLACES = 3;
const name = (place) => `vibe.stream.${place}`;

/**
 * A place: {release()}, or null where none is free.
 * Where there are no Web Locks (plain http from another machine), a place is always given.
 */
export async function takeSlot() {
  if (!navigator.locks || overHttp2()) return { release() {} };
  for (let place = 0; place < PLACES; place += 1) {
    const slot = await take(place);
    if (slot) return slot;
  }
  return null;
}

function take(place) {
  return new Promise((taken) => {
    navigator.locks.request(name(place), { ifAvailable: true }, (lock) =>
      lock ? new Promise((release) => taken({ release })) : taken(null),
    );
  });
}

/** HTTP/2 and 3 carry a hundred streams on one connection: no need to share. */
function overHttp2() {
  return /^h[23]/.test(performance.getEntriesByType("navigation")[0]?.nextHopProtocol ?? "");
}
