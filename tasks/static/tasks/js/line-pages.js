/**
 * The lines of a log that are in memory: those near the reader and the latest, within a budget of characters.
 * What is not there is asked for by ranges and can be forgotten at any time. Pure: no DOM, no network of its own.
 */

export const PAGE = 256;

export class LinePages {
  /**
   * @param {(first: number, count: number) => Promise<{first: number, total: number, records: object[]}>} load
   * @param {number} budget characters of content that are kept
   */
  constructor(load, budget = 8_000_000) {
    Object.assign(this, { load, budget });
    this.clear();
  }

  clear() {
    this.total = 0;
    this.pages = new Map();
    this.size = 0;
    this.loading = new Map();
    this.generation = (this.generation ?? 0) + 1;
  }

  /** The record of a line, or undefined while it is not in memory. */
  get(index) {
    return this.pages.get(Math.floor(index / PAGE))?.records[index % PAGE];
  }

  /** Takes in records whose first is line `first`. */
  put(first, records) {
    records.forEach((record, i) => {
      const page = this.#touch(Math.floor((first + i) / PAGE));
      const place = (first + i) % PAGE;
      const grown = record.content.length - (page.records[place]?.content.length ?? 0);
      page.records[place] = record;
      page.size += grown;
      this.size += grown;
    });
    this.total = Math.max(this.total, first + records.length);
    this.#trim();
  }

  append(records) {
    this.put(this.total, records);
  }

  /** Loads what of lines [first, last) is not in memory; resolves with whether anything came. */
  async ensure(first, last) {
    const wanted = [];
    for (let page = Math.floor(first / PAGE); page * PAGE < Math.min(last, this.total); page += 1) {
      if (this.pages.has(page)) this.#touch(page);
      const hole = this.#hole(page, first, last);
      if (hole !== null) wanted.push(this.#loadOnce(page, hole));
    }
    return (await Promise.all(wanted)).some(Boolean);
  }

  /** The first line of a page that is wanted and not there, or null. */
  #hole(page, first, last) {
    const end = Math.min(last, this.total, (page + 1) * PAGE);
    for (let index = Math.max(first, page * PAGE); index < end; index += 1) if (!this.get(index)) return index;
    return null;
  }

  #loadOnce(page, hole) {
    if (!this.loading.has(page)) {
      const { generation, loading } = this;
      const request = this.#loadPage(page, hole, generation).finally(() => loading.delete(page));
      loading.set(page, request);
    }
    return this.loading.get(page);
  }

  async #loadPage(page, hole, generation) {
    // The whole page where it is new, so that scrolling on finds its lines there.
    const first = this.pages.has(page) ? hole : page * PAGE;
    const answer = await this.load(first, Math.min((page + 1) * PAGE, this.total) - first);
    if (generation !== this.generation || !answer.records.length) return false;
    this.put(answer.first, answer.records);
    return true;
  }

  /** Makes a page the most recently used. */
  #touch(number) {
    const page = this.pages.get(number) ?? { records: [], size: 0 };
    this.pages.delete(number);
    this.pages.set(number, page);
    return page;
  }

  #trim() {
    for (const [number, page] of this.pages) {
      if (this.size <= this.budget || this.pages.size <= 2) return;
      this.pages.delete(number);
      this.size -= page.size;
    }
  }
}
