// Why this model: what a chat with a query would do now, and then the answer, of one model or all.

import { get, post } from "../api.js";
import { useAnswers } from "../answers.js";
import { setNames } from "../colours.js";
import { html, useCallback, useEffect, useMemo, useRef, useState } from "../html.js";
import { Empty, ErrorNote } from "../parts/basics.js";
import { AnswerCard } from "../parts/answer-card.js";
import { useLoaded } from "../polling.js";
import { CandidateTable } from "./why-candidates.js";
import { CandidatePlot } from "./why-plot.js";
import { Verdict } from "./why-verdict.js";

const EXAMPLES = ["What is 17 plus 25?", "Sort 52, 31 and 90.", "What is the capital of France?"];
const MOST_ANSWERS = 8;
const CHOSEN = "";

export function Why({ active }) {
  const [query, setQuery] = useState("");
  const [requirement, setRequirement] = useState(null); // null: the router's own
  const [explained, setExplained] = useState(null);
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  const asking = useRef(null);
  const { answers, ask, stop, clear } = useAnswers();
  const models = useLoaded(useCallback((signal) => get("v1/models", signal), []), active);
  useEffect(() => models.data && setNames(models.data.data.map(({ id }) => id).filter((id) => id !== "auto")), [models.data]);

  const explain = async (text, wanted = requirement) => {
    if (!text.trim()) return;
    asking.current?.abort();
    const controller = new AbortController();
    asking.current = controller;
    setBusy(true);
    setError(null);
    try {
      const router = wanted === null ? {} : { router: { performance_requirement: wanted } };
      const reply = await post("v1/route", { queries: [text], as: "chat", ...router }, controller.signal);
      setExplained((before) => {
        if (before?.query !== text) clear();
        return { query: text, ...reply, route: reply.data[0] };
      });
    } catch (failed) {
      if (failed.name === "AbortError") return;
      setError(failed);
      setExplained(null);
    }
    setBusy(false);
  };
  const submit = (event) => {
    event.preventDefault();
    explain(query);
  };
  const take = (example) => {
    setQuery(example);
    explain(example);
  };
  const slide = (value) => {
    setRequirement(value);
    if (explained) explain(explained.query, value);
  };

  // Not every strategy knows one: it isn't asked for before the router has told its own.
  const wanted = requirement ?? explained?.performance_requirement;

  return html`
    <div class="view-head">
      <div>
        <h1>Why this model</h1>
        <p class="lede">What a chat with this query would do now. Nothing is asked or learned until you run it.</p>
      </div>
    </div>
    <form class="card ask" onSubmit=${submit}>
      <label for="why-query" class="visually-hidden">Query</label>
      <textarea
        id="why-query"
        rows="2"
        placeholder="Type a query …"
        value=${query}
        onInput=${(event) => setQuery(event.target.value)}
        onKeyDown=${(event) => event.key === "Enter" && !event.shiftKey && !event.isComposing && submit(event)}
      ></textarea>
      <div class="ask-foot">
        ${wanted !== undefined && html`<${Requirement} value=${wanted} own=${requirement !== null} show=${setRequirement} change=${slide} />`}
        <button class="primary" disabled=${busy || !query.trim()}>${busy ? "Asking …" : "Explain"}</button>
      </div>
    </form>
    ${error && html`<${ErrorNote} error=${error} retry=${() => explain(query)} />`}
    ${!explained &&
    !error &&
    html`<${Empty} title="Which model would answer?">
      See what each model is predicted to be worth and to cost. For example:
      <span class="chips">${EXAMPLES.map((example) => html`<button type="button" key=${example} onClick=${() => take(example)}>${example}</button>`)}</span>
    <//>`}
    ${explained && html`<${Explained} explained=${explained} requirement=${requirement} run=${{ answers, ask, stop }} />`}
  `;
}

// `show` moves the slider, `change` asks with what it says, or with null for the router's own.
function Requirement({ value, own, show, change }) {
  return html`<div class="slider">
    <label for="why-requirement">Quality wanted <b>${value.toFixed(2)}</b>${own ? "" : html` <span class="second">the router’s own</span>`}</label>
    ${own && html`<button type="button" class="ghost small" onClick=${() => change(null)}>Back to the router’s own</button>`}
    <input
      id="why-requirement"
      type="range"
      min="0"
      max="1"
      step="0.01"
      value=${value}
      onInput=${(event) => show(Number(event.target.value))}
      onChange=${(event) => change(Number(event.target.value))}
    />
  </div>`;
}

function Explained({ explained, requirement, run }) {
  const { route, query } = explained;
  const predicted = route.candidates.some(({ quality }) => quality !== undefined);
  const all = useMemo(() => best(route.candidates), [route]);
  const body = (model) => ({
    model,
    messages: [{ role: "user", content: query }],
    ...(model === "auto" && requirement !== null ? { router: { performance_requirement: requirement } } : {}),
  });
  const shown = Object.keys(run.answers);
  const runOne = () => run.ask(CHOSEN, body("auto"));
  const runAll = () => all.forEach((model) => run.ask(model, body(model)));

  return html`
    <${Verdict} explained=${explained} />
    ${predicted &&
    html`<div class="two uneven">
      <${CandidatePlot} route=${route} multiplier=${explained.multiplier} />
      <${CandidateTable} route=${route} />
    </div>`}
    ${!predicted && html`<${CandidateTable} route=${route} />`}
    ${route.neighbours?.length > 0 && html`<${Neighbours} neighbours=${route.neighbours} />`}
    <section class="card" aria-labelledby="run-title">
      <div class="card-head">
        <h2 id="run-title">Run it</h2>
        <div class="actions">
          ${shown.some((name) => ["waiting", "streaming"].includes(run.answers[name].state)) &&
          html`<button type="button" class="ghost" onClick=${run.stop}>Stop</button>`}
          <button type="button" onClick=${runAll}>Run on ${all.length < route.candidates.length ? `the best ${all.length}` : "all"}</button>
          <button type="button" class="primary" onClick=${runOne}>Run it</button>
        </div>
      </div>
      ${shown.length === 0 && html`<p class="second">Asks as a chat does: the answer counts, costs and teaches like any other.</p>`}
      <div class="answers">
        ${shown.map(
          (name) => html`<${AnswerCard} key=${name} answer=${run.answers[name]} title=${name || null} again=${() => run.ask(name, body(name || "auto"))} />`,
        )}
      </div>
    </section>
  `;
}

// The candidates to compare: all where they are few, else those with the least scores.
function best(candidates) {
  const sorted = [...candidates].sort((one, other) => (one.score ?? 0) - (other.score ?? 0) || 0);
  return sorted.slice(0, MOST_ANSWERS).map(({ model }) => model);
}

function Neighbours({ neighbours }) {
  return html`<section class="card" aria-labelledby="neighbours-title">
    <div class="card-head"><h2 id="neighbours-title">The nearest past queries</h2><span class="second">what the predictions rest on</span></div>
    <ol class="neighbours">
      ${neighbours.map(
        ({ id, similarity, query }) => html`<li key=${id}>
          <svg class="similarity series-1" viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true"><rect class="track" width="100" height="6" /><rect class="fill" width=${100 * Math.max(similarity, 0)} height="6" /></svg>
          <span class="number" title="similarity">${similarity.toFixed(2)}</span>
          <span>${query ?? html`<span class="second">no longer kept</span>`}</span>
        </li>`,
      )}
    </ol>
  </section>`;
}
