// What this browser keeps for the site: localStorage, but where that is full or forbidden what is written lasts as long
// as the page. Null for what is not there.

const unkept = new Map();

export const storage = {
  getItem(key) {
    if (unkept.has(key)) return unkept.get(key);
    try {
      return localStorage.getItem(key);
    } catch {
      return null;
    }
  },

  setItem(key, value) {
    try {
      localStorage.setItem(key, value);
      unkept.delete(key);
    } catch {
      unkept.set(key, value);
    }
  },

  removeItem(key) {
    unkept.delete(key);
    try {
      localStorage.removeItem(key);
    } catch {
      // forbidden: there is nothing
    }
  },

  keys() {
    try {
      return Object.keys(localStorage);
    } catch {
      return [];
    }
  },
};
