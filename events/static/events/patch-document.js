// A JSON document and the RFC 6902 operations on it, as strict as the RFC: what does not fit is an error.

export class PatchError extends Error {}

const NEED_VALUE = ["add", "replace", "test"];

/**
 * Applies one operation and returns the document: a new one where the whole was replaced, else the same, changed in
 * place. Raises PatchError, and leaves the document as it was, where the operation does not fit.
 */
export function applyPatch(document, operation) {
  const { op, path } = operation;
  if (typeof path !== "string") throw new PatchError(`no path: ${path}`);
  if (NEED_VALUE.includes(op) && !Object.hasOwn(operation, "value")) throw new PatchError(`no value for ${path}`);
  if (op === "test") {
    if (!equal(read(document, path), operation.value)) throw new PatchError(`test failed at ${path}`);
    return document;
  }
  if (op === "move" || op === "copy") return transfer(document, operation);
  if (!["add", "replace", "remove"].includes(op)) throw new PatchError(`unknown operation ${op}`);
  if (path === "") return op === "remove" ? null : operation.value;
  const [parent, key] = locate(document, path);
  if (op !== "add" && !has(parent, key)) throw new PatchError(`nothing at ${path}`);
  if (Array.isArray(parent)) changeArray(parent, key, operation);
  else if (op === "remove") delete parent[key];
  else parent[key] = operation.value;
  return document;
}

function transfer(document, { op, from, path }) {
  if (typeof from !== "string") throw new PatchError(`no place to ${op} from: ${from}`);
  if (op === "move" && path.startsWith(`${from}/`)) throw new PatchError(`${from} can't move into itself`);
  const value = structuredClone(read(document, from));
  const without = op === "move" ? applyPatch(document, { op: "remove", path: from }) : document;
  return applyPatch(without, { op: "add", path, value });
}

function read(document, path) {
  if (path === "") return document;
  const [parent, key] = locate(document, path);
  if (!has(parent, key)) throw new PatchError(`nothing at ${path}`);
  return parent[key];
}

/** [parent, key] of a JSON pointer (RFC 6901); the parent exists. */
function locate(document, path) {
  if (!path.startsWith("/")) throw new PatchError(`not a pointer: ${path}`);
  const keys = path.slice(1).split("/").map((part) => part.replaceAll("~1", "/").replaceAll("~0", "~"));
  const last = keys.pop();
  let parent = document;
  for (const key of keys) {
    if (!has(parent, key)) throw new PatchError(`nothing at ${path}`);
    parent = parent[key];
  }
  if (parent === null || typeof parent !== "object") throw new PatchError(`nothing can be at ${path}`);
  return [parent, last];
}

function has(parent, key) {
  if (Array.isArray(parent)) return isIndex(key) && Number(key) < parent.length;
  return parent !== null && typeof parent === "object" && Object.hasOwn(parent, key);
}

const isIndex = (key) => /^(0|[1-9]\d*)$/.test(key);

function changeArray(list, key, { op, path, value }) {
  const place = key === "-" ? list.length : Number(key);
  if ((key !== "-" && !isIndex(key)) || place > list.length) throw new PatchError(`no such place: ${path}`);
  if (op === "add") list.splice(place, 0, value);
  else if (op === "remove") list.splice(place, 1);
  else list[place] = value;
}

function equal(a, b) {
  if (a === b) return true;
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return false;
  const keys = Object.keys(a);
  const same = Array.isArray(a) === Array.isArray(b) && keys.length === Object.keys(b).length;
  return same && keys.every((key) => Object.hasOwn(b, key) && equal(a[key], b[key]));
}
