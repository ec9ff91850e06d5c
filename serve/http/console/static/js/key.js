// The API key: in this tab's session storage only, and who wants to know what becomes of it.

const PLACE = "llm-cores-key";
const listeners = new Set();
let held = stored();

export function key() {
  return held;
}

export function setKey(value) {
  held = value;
  try {
    sessionStorage.setItem(PLACE, value);
  } catch {
    // The browser keeps nothing for this page: the key holds until it is left.
  }
  tell("changed");
}

// Forgets the key, with all that was shown to it.
export function forgetKey() {
  try {
    sessionStorage.removeItem(PLACE);
  } catch {
    // It was never kept.
  }
  location.reload();
}

// The server refused a request for its key.
export function refused(withKey) {
  tell(withKey ? "unknown" : "missing");
}

// Calls back with "changed", "missing" or "unknown"; returns what ends that.
export function onKey(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

function stored() {
  try {
    return sessionStorage.getItem(PLACE);
  } catch {
    return null;
  }
}

function tell(what) {
  for (const listener of [...listeners]) listener(what);
}
