// The candidates of a choice, best first.

import { count, exactly, quality, usd } from "../format.js";
import { html, useState } from "../html.js";
import { ModelName } from "../parts/basics.js";
import { seriesClass } from "../colours.js";

const FIRST = 12;

export function CandidateTable({ route }) {
  const [all, setAll] = useState(false);
  const predicted = route.candidates.some((candidate) => candidate.quality !== undefined);
  const sorted = predicted
    ? [...route.candidates].sort((one, other) => (one.score ?? Infinity) - (other.score ?? Infinity) || 0)
    : route.candidates;
  const shown = all ? sorted : sorted.slice(0, FIRST);
  return html`<section class="card" aria-labelledby="candidates-title">
    <div class="card-head">
      <h2 id="candidates-title">Candidates</h2>
      <span class="second">${predicted ? "the lowest score is chosen" : "in the order in which they would be tried"}</span>
    </div>
    <div class="scroll" tabindex="0" role="region" aria-label="Table of candidates">
      <table class="candidates">
        <thead>
          <tr>
            <th scope="col">Model</th>
            ${predicted &&
            html`<th scope="col">Quality</th><th scope="col" class="number">Tokens</th><th scope="col" class="number">Cost</th><th scope="col" class="number">Score</th>`}
          </tr>
        </thead>
        <tbody>
          ${shown.map(
            (candidate) => html`<tr key=${candidate.model} class=${candidate.model === route.model ? "chosen" : ""}>
              <th scope="row"><${ModelName} name=${candidate.model} />${candidate.model === route.model && html`<b class="badge accent">chosen</b>`}</th>
              ${predicted && html`<${Predictions} candidate=${candidate} />`}
            </tr>`,
          )}
        </tbody>
      </table>
    </div>
    ${sorted.length > shown.length &&
    html`<button type="button" class="ghost more-button" onClick=${() => setAll(true)}>Show all ${sorted.length}</button>`}
  </section>`;
}

function Predictions({ candidate }) {
  const { model, cost, score } = candidate;
  return html`
    <td class="quality-cell"><${QualityBar} candidate=${candidate} className=${seriesClass(model)} /><span>${quality(candidate.quality)}<span class="second"> ± ${quality(candidate.uncertainty)}</span></span></td>
    <td class="number">${count(candidate.output_tokens)}</td>
    <td class="number" title=${exactly(cost)}>${usd(cost)}</td>
    <td class="number" title=${exactly(score)}>${usd(score)}</td>
  `;
}

function QualityBar({ candidate, className }) {
  const clamped = (value) => 100 * Math.min(Math.max(value, 0), 1);
  const low = clamped(candidate.quality - candidate.uncertainty);
  const high = clamped(candidate.quality + candidate.uncertainty);
  return html`<svg class="quality-bar ${className}" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">
    <rect class="track" width="100" height="8" />
    <rect class="fill" width=${clamped(candidate.quality)} height="8" />
    <rect class="spread" x=${low} width=${high - low} y="3" height="2" />
  </svg>`;
}
