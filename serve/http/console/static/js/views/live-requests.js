// Requests as they were routed, newest first: which model, why, what it cost against the prediction.

import { clock, count, duration, exactly, quality, reason, usd } from "../format.js";
import { html, useState } from "../html.js";
import { Empty, ModelName, Segments } from "../parts/basics.js";
import { Icon } from "../parts/icons.js";

const FIRST = 25;
const FILTERS = [
  ["all", "All"],
  ["trouble", "Errors and rescues"],
];

export function Requests({ requests, showsQueries }) {
  const [filter, setFilter] = useState("all");
  const [most, setMost] = useState(FIRST);
  const found = filter === "all" ? requests : requests.filter(isTrouble);
  return html`<section class="card" aria-labelledby="requests-title">
    <div class="card-head">
      <h2 id="requests-title">Requests</h2>
      <${Segments} label="Which requests" options=${FILTERS} chosen=${filter} choose=${setFilter} />
    </div>
    ${found.length === 0 &&
    html`<${Empty} title=${filter === "all" ? "No requests yet" : "None of these"}>
      ${filter === "all" ? "Requests appear here as they are routed." : "No request failed or had to be rescued."}
    <//>`}
    <ol class="requests">
      ${found.slice(0, most).map((request) => html`<${Row} key=${request.id} request=${request} />`)}
    </ol>
    ${found.length > most &&
    html`<button type="button" class="ghost more-button" onClick=${() => setMost(most + 50)}>Show more</button>`}
    ${!showsQueries && found.length > 0 && html`<p class="foot">Prompts aren't shown: the operator hasn't set <code>show_queries</code>.</p>`}
  </section>`;
}

function isTrouble(request) {
  return request.error || request.attempts > 1 || request.rescued?.length > 0;
}

function Row({ request }) {
  const [open, setOpen] = useState(false);
  const failed = request.error || request.status >= 400;
  return html`<li class=${failed ? "failed" : ""}>
    <button type="button" class="request" aria-expanded=${String(open)} onClick=${() => setOpen(!open)}>
      <span class="chevron ${open ? "open" : ""}"><${Icon} name="chevron" /></span>
      <time>${clock(request.at)}</time>
      <span class="who">${request.model ? html`<${ModelName} name=${request.model} />` : html`<span class="second">no model</span>`}</span>
      <span class="because">${request.query ? html`<q>${request.query}</q> ` : ""}<span class="second">${why(request)}</span><${Badges} request=${request} /></span>
      <span class="number cost" title="predicted, then real">
        ${request.predicted && html`<span class="second">${usd(request.predicted.cost)} → </span>`}${usd(request.cost)}
      </span>
      <span class="number time">${duration(request.seconds)}</span>
    </button>
    ${open && html`<${Details} request=${request} />`}
  </li>`;
}

function why(request) {
  if (request.error) return request.error;
  if (request.reason) return reason(request.reason);
  return request.asked && request.asked !== "auto" ? "asked for by name" : (request.strategy ?? "");
}

function Badges({ request }) {
  const rescues = request.rescued?.length ?? 0;
  return html`${request.status >= 400 && html`<b class="badge bad">${request.status}</b>`}
  ${request.attempts > 1 && html`<b class="badge warn">${request.attempts} attempts</b>`}
  ${rescues > 0 && html`<b class="badge warn">rescued</b>`}`;
}

function Details({ request }) {
  const { predicted, rescued } = request;
  const rows = [
    ["Id", html`<code>${request.id}</code>`],
    ["Path", html`<code>${request.path}</code>${request.stream ? ", streamed" : ""}`],
    ["Key", request.key],
    ["Asked for", request.asked],
    ["Strategy", request.strategy],
    ["Quality", predicted && `${quality(predicted.quality)} predicted; ${request.wanted ?? "–"} wanted on average`],
    ["Tokens", `${count(request.prompt_tokens)} in, ${count(request.completion_tokens)} out${predicted ? ` (${count(predicted.output_tokens)} predicted)` : ""}`],
    ["Cost", predicted ? `${exactly(request.cost)} (${exactly(predicted.cost)} predicted)` : exactly(request.cost)],
    ["First token", duration(request.first_token_s)],
    ["Whole", duration(request.seconds)],
    ["Rescued from", rescued?.map(named).join(", ")],
    ["Error", request.error],
  ];
  return html`<dl class="details">
    ${rows.filter(([, value]) => value).map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}
  </dl>`;
}

function named(rescue) {
  return typeof rescue === "string" ? rescue : (rescue.from ?? rescue.model);
}
