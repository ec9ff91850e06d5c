// A model's answer as it streams in: what is known of it so far, told at most once a frame.

import { events, send } from "./api.js";
import { useCallback, useEffect, useRef, useState } from "./html.js";

const NEW = {
  state: "waiting", // then "streaming", and "done", "stopped" or "failed"
  id: null,
  model: null,
  reason: null,
  text: "",
  reasoning: "",
  calls: [],
  finish: null,
  usage: null,
  router: null,
  firstToken: null,
  seconds: null,
  error: null,
};

// Streams the answer to a chat request's body; `tell` gets each new state of it. Returns the last.
export async function stream(body, signal, tell) {
  const started = performance.now();
  const since = () => (performance.now() - started) / 1000;
  let answer = { ...NEW };
  let frame = 0;
  const changed = (now) => {
    answer = { ...answer, ...now };
    frame ||= requestAnimationFrame(() => {
      frame = 0;
      tell(answer);
    });
  };
  tell(answer);
  try {
    const response = await send("v1/chat/completions", {
      method: "POST",
      body: { ...body, stream: true, stream_options: { include_usage: true } },
      signal,
    });
    changed({
      model: response.headers.get("x-router-model"),
      reason: response.headers.get("x-router-reason"),
    });
    for await (const event of events(response)) changed(after(answer, event, since()));
    changed({ state: "done" });
  } catch (error) {
    const stopped = error.name === "AbortError";
    changed({ state: stopped ? "stopped" : "failed", error: stopped ? null : error });
  }
  cancelAnimationFrame(frame);
  answer = { ...answer, seconds: since() };
  tell(answer);
  return answer;
}

function after(answer, event, seconds) {
  const known = { id: event.id, model: event.model, usage: event.usage ?? answer.usage };
  const choice = event.choices[0];
  if (!choice) return known;
  const { content, reasoning_content: thought, tool_calls: pieces } = choice.delta;
  const said = content || thought || pieces;
  return {
    ...known,
    state: "streaming",
    router: event.router ?? answer.router,
    finish: choice.finish_reason ?? answer.finish,
    firstToken: answer.firstToken ?? (said ? seconds : null),
    text: answer.text + (content ?? ""),
    reasoning: answer.reasoning + (thought ?? ""),
    calls: pieces ? withPieces(answer.calls, pieces) : answer.calls,
  };
}

function withPieces(calls, pieces) {
  const joined = [...calls];
  for (const { index, id, function: part } of pieces) {
    const call = joined[index] ?? { id: null, name: "", arguments: "" };
    joined[index] = {
      id: id ?? call.id,
      name: call.name + (part.name ?? ""),
      arguments: call.arguments + (part.arguments ?? ""),
    };
  }
  return joined;
}

export function isRunning(answer) {
  return answer?.state === "waiting" || answer?.state === "streaming";
}

// Output tokens per second from the first token on; null where that is too short to tell.
export function speed(answer) {
  const tokens = answer.usage?.completion_tokens;
  const seconds = answer.seconds - answer.firstToken;
  return tokens > 1 && answer.firstToken !== null && seconds > 0.005 ? (tokens - 1) / seconds : null;
}

// Answers by name: `ask(name, body)` starts one, `stop()` ends all that run, `clear()` forgets all.
export function useAnswers() {
  const [answers, setAnswers] = useState({});
  const controllers = useRef(new Map());
  const stop = useCallback(() => {
    for (const controller of controllers.current.values()) controller.abort();
  }, []);
  const ask = useCallback((name, body) => {
    controllers.current.get(name)?.abort();
    const controller = new AbortController();
    controllers.current.set(name, controller);
    return stream(body, controller.signal, (answer) => {
      // One that was asked anew, or cleared, still has its end to tell.
      if (controllers.current.get(name) === controller) setAnswers((all) => ({ ...all, [name]: answer }));
    });
  }, []);
  const clear = useCallback(() => {
    stop();
    controllers.current.clear();
    setAnswers({});
  }, []);
  useEffect(() => stop, []);
  return { answers, ask, stop, clear };
}
