// Runs before the first paint, so that a chosen theme never flashes. Choices are kept in this browser only.
(() => {
  for (const name of ["theme", "density"]) {
    try {
      const value = localStorage.getItem(`vibe.${name}`);
      if (value) document.documentElement.dataset[name] = value;
    } catch {
      return; // storage is blocked: the system's preference it is
    }
  }
})();
