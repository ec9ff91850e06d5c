// Asks again and again while someone looks: every few seconds, less often while it fails.

import { onKey } from "./key.js";
import { useCallback, useEffect, useState } from "./html.js";

const LONGEST_S = 30;

// Calls `ask(signal)` every `seconds` while `active` and the tab is shown. Returns the last error,
// when the next try is due, and `retry`, which asks at once.
export function usePolling(ask, seconds, active) {
  const [error, setError] = useState(null);
  const [turn, setTurn] = useState(0);
  const retry = useCallback(() => setTurn((last) => last + 1), []);

  useEffect(() => onKey((what) => what === "changed" && retry()), []);
  useEffect(() => {
    if (!active) return undefined;
    const controller = new AbortController();
    let timer = 0;
    let wait = seconds;
    let asking = false;
    const round = async () => {
      if (!document.hidden) {
        asking = true;
        try {
          await ask(controller.signal);
          wait = seconds;
          setError(null);
        } catch (failed) {
          if (failed.name === "AbortError") return;
          setError(failed);
          // Without a good key, the next try is when one is entered.
          if (failed.status === 401) return;
          wait = Math.max(seconds, Math.min(2 * wait, LONGEST_S));
        } finally {
          asking = false;
        }
      }
      if (!controller.signal.aborted) timer = setTimeout(round, wait * 1000);
    };
    const shown = () => {
      if (document.hidden || asking) return;
      clearTimeout(timer);
      round();
    };
    round();
    document.addEventListener("visibilitychange", shown);
    return () => {
      controller.abort();
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", shown);
    };
  }, [ask, seconds, active, turn]);
  return { error, retry };
}

// What `ask(signal)` gives, asked once while `active`, and again after a new key or `retry`.
export function useLoaded(ask, active = true) {
  const [state, setState] = useState({ data: null, error: null, loading: false });
  const [turn, setTurn] = useState(0);
  const retry = useCallback(() => setTurn((last) => last + 1), []);
  useEffect(() => onKey((what) => what === "changed" && retry()), []);
  useEffect(() => {
    if (!active) return undefined;
    const controller = new AbortController();
    setState((last) => ({ ...last, loading: true }));
    ask(controller.signal).then(
      (data) => setState({ data, error: null, loading: false }),
      (error) => {
        if (error.name !== "AbortError") setState({ data: null, error, loading: false });
      },
    );
    return () => controller.abort();
  }, [ask, active, turn]);
  return { ...state, retry };
}
