// Try it: a chat with any model, its options, and the same request as code.

import { get } from "../api.js";
import { isRunning, stream } from "../answers.js";
import { setNames } from "../colours.js";
import { html, useCallback, useEffect, useRef, useState } from "../html.js";
import { Empty, ErrorNote } from "../parts/basics.js";
import { AnswerCard } from "../parts/answer-card.js";
import { Icon } from "../parts/icons.js";
import { useLoaded } from "../polling.js";
import { Code } from "./chat-code.js";
import { Options, STANDARD, problems, requestBody } from "./chat-options.js";
import { ToolResults } from "./chat-tools.js";

export function Chat({ active }) {
  const models = useLoaded(useCallback((signal) => get("v1/models", signal), []), active);
  const [options, setOptions] = useState(STANDARD);
  const [turns, setTurns] = useState([]); // {message} of the user's and of tools, {answer} of models
  const [draft, setDraft] = useState("");
  const controller = useRef(null);
  const end = useRef(null);
  const last = turns[turns.length - 1];
  const running = isRunning(last?.answer);
  const waitsForTools = !running && last?.answer?.state === "done" && last.answer.calls.length > 0;
  const faults = problems(options);

  useEffect(() => models.data && setNames(models.data.data.map(({ id }) => id).filter((id) => id !== "auto")), [models.data]);
  useEffect(() => () => controller.current?.abort(), []);
  useEffect(() => {
    if (turns.length) end.current?.scrollIntoView({ block: "nearest" });
  }, [turns]);

  const converse = (history) => {
    if (faults.length) return;
    const mine = new AbortController();
    controller.current = mine;
    stream(requestBody(options, messagesOf(history)), mine.signal, (answer) => {
      // A chat that was left for a new one still has its end to tell.
      if (controller.current === mine) setTurns([...history, { answer }]);
    });
  };
  const send = (event) => {
    event.preventDefault();
    if (!draft.trim() || running || waitsForTools || faults.length) return;
    converse([...turns.filter(isSound), { message: { role: "user", content: draft } }]);
    setDraft("");
  };
  const again = () => converse(turns.slice(0, -1));
  const clear = () => {
    controller.current?.abort();
    controller.current = null;
    setTurns([]);
  };

  return html`
    <div class="view-head">
      <div>
        <h1>Try it</h1>
        <p class="lede">A chat with one model, or with whichever the router chooses.</p>
      </div>
      <div class="actions">${turns.length > 0 && html`<button type="button" onClick=${clear}>New chat</button>`}</div>
    </div>
    ${models.error && html`<${ErrorNote} error=${models.error} retry=${models.retry} />`}
    <div class="chat">
      <section class="card conversation" aria-label="Conversation">
        <div class="turns" tabindex="0" role="log" aria-label="Messages">
          ${turns.length === 0 && html`<${Empty} title="Say something">Answers stream in, with the model that gave them, why, and what they cost.<//>`}
          ${turns.map(
            (turn, place) => html`<${Turn} key=${place} turn=${turn} again=${place === turns.length - 1 ? again : null}>
              ${waitsForTools &&
              place === turns.length - 1 &&
              html`<${ToolResults} calls=${turn.answer.calls} give=${(results) => converse([...turns, ...results.map((message) => ({ message }))])} />`}
            <//>`,
          )}
          <div ref=${end}></div>
        </div>
        <form class="composer" onSubmit=${send}>
          <label for="chat-draft" class="visually-hidden">Message</label>
          <textarea
            id="chat-draft"
            rows="2"
            placeholder=${waitsForTools ? "Give the tools’ results first" : "Message …"}
            value=${draft}
            onInput=${(event) => setDraft(event.target.value)}
            onKeyDown=${(event) => event.key === "Enter" && !event.shiftKey && !event.isComposing && send(event)}
          ></textarea>
          ${running
            ? html`<button type="button" class="round" aria-label="Stop" onClick=${() => controller.current.abort()}><${Icon} name="stop" /></button>`
            : html`<button class="round primary" aria-label="Send" disabled=${!draft.trim() || waitsForTools || faults.length > 0}><${Icon} name="send" /></button>`}
        </form>
      </section>
      <div class="side">
        <${Options} options=${options} change=${setOptions} models=${models.data?.data ?? []} faults=${faults} />
        <${Code} body=${faults.length ? null : requestBody(options, [...messagesOf(turns), ...draftMessage(draft, turns)])} />
      </div>
    </div>
  `;
}

function Turn({ turn, again, children }) {
  if (turn.answer) return html`<${AnswerCard} answer=${turn.answer} again=${again}>${children}<//>`;
  const { role, content } = turn.message;
  return html`<div class="said ${role}">${role === "tool" && html`<span class="kicker">Tool’s result</span>`}<p>${content}</p></div>`;
}

// What can be sent again: answers that ended before they said anything are left out.
function isSound({ answer }) {
  return !answer || answer.text !== "" || callsOf(answer).length > 0;
}

// The calls of an answer that broke off may be half written, and nobody gave their results.
function callsOf({ state, calls }) {
  return state === "done" ? calls : [];
}

function messagesOf(turns) {
  return turns.filter(isSound).map(({ message, answer }) => message ?? asMessage(answer));
}

function asMessage(answer) {
  const { text } = answer;
  const calls = callsOf(answer);
  if (calls.length === 0) return { role: "assistant", content: text };
  const tool_calls = calls.map((call) => ({
    id: call.id,
    type: "function",
    function: { name: call.name, arguments: call.arguments },
  }));
  return { role: "assistant", content: text || null, tool_calls };
}

function draftMessage(draft, turns) {
  if (draft.trim()) return [{ role: "user", content: draft }];
  return turns.length ? [] : [{ role: "user", content: "Hello!" }];
}
