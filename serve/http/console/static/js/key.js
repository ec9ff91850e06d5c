// The API key: in this tab's session storage only, and who wants to know that it has changed.

const PLACE = "llm-cores-key";
const listeners = new Set();

export function key() {
  return sessionStorage.getItem(PLACE);
}

export function setKey(value) {
  if (value) sessionStorage.setItem(PLACE, value);
  else sessionStorage.removeItem(PLACE);
  tell(value ? "changed" : "forgotten");
}

// The server refused a request for its key.
export function refused(withKey) {
  tell(withKey ? "unknown" : "missing");
}

// Calls back with "changed", "forgotten", "missing" or "unknown"; returns what ends that.
export function onKey(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

function tell(what) {
  for (const listener of [...listeners]) listener(what);
}
