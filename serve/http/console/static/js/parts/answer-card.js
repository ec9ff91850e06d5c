// One answer: its text as it streams, the tool calls, what it took, and thumbs for what it was worth.

import { post } from "../api.js";
import { isRunning, speed } from "../answers.js";
import { count, duration, exactly, plural, reason, usd } from "../format.js";
import { html, useEffect, useState } from "../html.js";
import { Markdown } from "../markdown.js";
import { ErrorNote, ModelName } from "./basics.js";
import { Icon } from "./icons.js";

// `title`: the model where it was asked for by name. `again`: asks once more, after an error.
export function AnswerCard({ answer, title = null, again, children }) {
  const name = answer.model ?? title;
  return html`<article class="answer ${answer.state}" aria-busy=${String(isRunning(answer))} aria-label=${`Answer of ${name ?? "a model"}`}>
    <header>
      ${name ? html`<${ModelName} name=${name} />` : html`<span class="second">choosing a model …</span>`}
      ${answer.reason && title === null && html`<span class="second reason">${reason(answer.reason)}</span>`}
    </header>
    ${answer.reasoning && html`<details class="thought"><summary>Reasoning</summary><p>${answer.reasoning}</p></details>`}
    <div class="answer-text" aria-live="polite">
      ${answer.text && html`<${Markdown} text=${answer.text} />`}
      ${answer.state === "waiting" && html`<span class="typing" aria-label="waiting for the first token"><i></i><i></i><i></i></span>`}
      ${answer.state === "done" && !answer.text && answer.calls.length === 0 && html`<p class="second">The answer is empty.</p>`}
    </div>
    ${answer.calls.map((call, place) => html`<${ToolCall} key=${call.id ?? place} call=${call} />`)}
    ${children}
    ${answer.error && html`<${ErrorNote} error=${answer.error} retry=${again} />`}
    ${answer.state === "stopped" && html`<p class="second">Stopped.</p>`}
    ${!isRunning(answer) && html`<footer><${Taken} answer=${answer} />${answer.state === "done" && html`<${Thumbs} id=${answer.id} />`}</footer>`}
  </article>`;
}

export function ToolCall({ call }) {
  return html`<div class="tool-call">
    <p><span class="kicker">Tool call</span> <code>${call.name}</code></p>
    <pre tabindex="0">${indented(call.arguments)}</pre>
  </div>`;
}

function indented(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text; // it still streams in, or the model wrote no JSON
  }
}

function Taken({ answer }) {
  const perSecond = speed(answer);
  const cost = answer.router?.cost;
  const parts = [
    answer.firstToken !== null && ["first token", duration(answer.firstToken)],
    ["whole", duration(answer.seconds)],
    answer.usage && ["output", plural(answer.usage.completion_tokens, "token")],
    perSecond && ["speed", `${count(perSecond)} tokens/s`],
    answer.router && ["cost", usd(cost), exactly(cost)],
    answer.router?.attempts > 1 && ["attempts", String(answer.router.attempts)],
    answer.router?.rescued && ["rescued from", answer.router.rescued.map(({ from }) => from).join(", ")],
    answer.finish && !["stop", "tool_calls"].includes(answer.finish) && ["ended by", answer.finish],
  ].filter(Boolean);
  return html`<dl class="taken">${parts.map(([what, value, title]) => html`<div key=${what}><dt>${what}</dt><dd title=${title}>${value}</dd></div>`)}</dl>`;
}

// What the answer was worth: feedback teaches the router. A second thumb replaces the first.
export function Thumbs({ id }) {
  const [score, setScore] = useState(null);
  const [error, setError] = useState(null);
  useEffect(() => {
    setScore(null);
    setError(null);
  }, [id]);
  const rate = async (value) => {
    setError(null);
    try {
      await post("v1/feedback", { id, score: value });
      setScore(value);
    } catch (failed) {
      setError(failed);
    }
  };
  const thumb = (value, icon, label) => html`<button
    type="button"
    class="ghost icon-button"
    aria-label=${label}
    aria-pressed=${String(score === value)}
    onClick=${() => rate(value)}
  ><${Icon} name=${icon} /></button>`;
  return html`<div class="thumbs">
    <span class="thumbs-note ${error ? "bad-text" : ""}" role="status">${error ? error.message : score === null ? "" : "Noted"}</span>
    ${thumb(1, "up", "Good answer")} ${thumb(0, "down", "Bad answer")}
  </div>`;
}
