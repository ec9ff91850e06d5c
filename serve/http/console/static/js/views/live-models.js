// The table of models: state, traffic, latency, errors, replicas and cost of each.

import { count, duration, exactly, usd } from "../format.js";
import { html, useMemo, useState } from "../html.js";
import { ModelName } from "../parts/basics.js";
import { Sparkline, thinned } from "../parts/sparkline.js";
import { seriesClass } from "../colours.js";

const FIRST = 20;

export function ModelTable({ models, history }) {
  const [wanted, setWanted] = useState("");
  const [all, setAll] = useState(false);
  const found = useMemo(() => {
    const named = models.filter(({ name }) => name.toLowerCase().includes(wanted.toLowerCase()));
    // The busiest first where not all can be seen; else each keeps its place.
    return models.length > FIRST ? named.sort((one, other) => traffic(other) - traffic(one)) : named;
  }, [models, wanted]);
  const shown = all ? found : found.slice(0, FIRST);

  return html`<section class="card" aria-labelledby="models-title">
    <div class="card-head">
      <h2 id="models-title">Models</h2>
      ${models.length > FIRST &&
      html`<input type="search" placeholder="Find a model" aria-label="Find a model" value=${wanted} onInput=${(event) => setWanted(event.target.value)} />`}
    </div>
    <div class="scroll" tabindex="0" role="region" aria-label="Table of models">
      <table class="models stacks">
        <thead>
          <tr>
            <th scope="col">Model</th>
            <th scope="col">Traffic</th>
            <th scope="col" class="number">Requests/s</th>
            <th scope="col" class="number">First token <span class="unit">p50 · p90</span></th>
            <th scope="col" class="number">Tokens/s</th>
            <th scope="col" class="number">Errors/s</th>
            <th scope="col" class="number">In flight</th>
            <th scope="col" class="number">Replicas</th>
            <th scope="col" class="number">Cost/hour</th>
          </tr>
        </thead>
        <tbody>
          ${shown.map((model) => html`<${Row} key=${model.name} model=${model} past=${history[model.name]} />`)}
        </tbody>
      </table>
    </div>
    ${found.length > shown.length &&
    html`<button type="button" class="ghost more-button" onClick=${() => setAll(true)}>Show all ${found.length}</button>`}
  </section>`;
}

function traffic(model) {
  return model.now.requests_per_s ?? 0;
}

function Row({ model, past }) {
  const { now, replicas } = model;
  const cost = now.usd_per_s === null ? null : 3600 * now.usd_per_s;
  return html`<tr>
    <th scope="row">
      <${ModelName} name=${model.name} />
      <span class="under"><${Status} model=${model} /> · ${model.provider}</span>
    </th>
    <td class="spark" data-label="Traffic"><${Sparkline} values=${past && thinned(past.requests_per_s)} className=${seriesClass(model.name)} /></td>
    <td class="number" data-label="Requests/s">${count(now.requests_per_s)}</td>
    <td class="number" data-label="First token">${duration(now.first_token_s?.p50)}<span class="second"> · ${duration(now.first_token_s?.p90)}</span></td>
    <td class="number" data-label="Tokens/s">${count(now.output_tokens_per_s)}</td>
    <td class="number ${now.errors_per_s ? "bad-text" : ""}" data-label="Errors/s">${count(now.errors_per_s)}</td>
    <td class="number" data-label="In flight">${count(model.in_flight)}${model.queued ? html`<span class="second"> +${count(model.queued)} queued</span>` : ""}</td>
    <td class="number" data-label="Replicas">${running(replicas)}</td>
    <td class="number" data-label="Cost/hour" title=${exactly(cost)}>${usd(cost)}</td>
  </tr>`;
}

function running(replicas) {
  if (!replicas) return "–";
  const starting = replicas.starting ? html`<span class="second"> +${replicas.starting}</span>` : "";
  return html`${count(replicas.running)}<span class="second"> / ${count(replicas.wanted)}</span>${starting}`;
}

// The state in words, with a dot that only repeats it.
function Status({ model }) {
  const { circuit, available, status } = model;
  if (circuit && circuit !== "closed") {
    return html`<span class="status ${circuit === "open" ? "bad" : "warn"}">circuit ${circuit.replace("_", " ")}</span>`;
  }
  return html`<span class="status ${available ? "" : "bad"}" title=${model.message}>${status}</span>`;
}
