// The candidates by cost and quality, with the line of those that would be as good as the choice:
// all candidates lie on it or to its right.

import { quality, usd } from "../format.js";
import { html } from "../html.js";
import { seriesClass } from "../colours.js";

const WIDTH = 520;
const HEIGHT = 300;
const LEFT = 46;
const RIGHT = 16;
const TOP = 14;
const BOTTOM = 40;
const MOST = 40;

export function CandidatePlot({ route, multiplier }) {
  const candidates = route.candidates.filter(({ quality: worth }) => worth !== undefined).slice(0, MOST);
  const chosen = route.candidates.find(({ model }) => model === route.model);
  const dearest = Math.max(...candidates.map(({ cost }) => cost), Number.MIN_VALUE);
  const x = (cost) => LEFT + (cost / (1.15 * dearest)) * (WIDTH - LEFT - RIGHT);
  const least = lowest(candidates);
  const y = (worth) => TOP + ((1 - Math.min(Math.max(worth, least), 1)) / (1 - least)) * (HEIGHT - TOP - BOTTOM);
  const said = candidates.map(({ model, quality: worth, cost }) => `${model}: quality ${quality(worth)}, cost ${usd(cost)}`).join("; ");
  return html`<figure class="card plot-card">
    <figcaption><h2>Quality against cost</h2><span class="at">predicted</span></figcaption>
    <svg class="scatter" viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label=${`Predicted quality against cost. ${said}. Chosen: ${route.model}`}>
      ${[0, 0.25, 0.5, 0.75, 1].map((part) => least + part * (1 - least)).map(
        (tick) => html`<g key=${tick}>
          <line class="grid" x1=${LEFT} x2=${WIDTH - RIGHT} y1=${y(tick)} y2=${y(tick)} />
          <text class="tick" x=${LEFT - 8} y=${y(tick) + 4} text-anchor="end">${quality(tick)}</text>
        </g>`,
      )}
      ${[0, 0.5, 1].map(
        (part) => html`<text class="tick" key=${part} x=${x(part * dearest)} y=${HEIGHT - BOTTOM + 18} text-anchor=${part ? "middle" : "start"}>${usd(part * dearest)}</text>`,
      )}
      <text class="axis" x=${(LEFT + WIDTH - RIGHT) / 2} y=${HEIGHT - 6} text-anchor="middle">cost of the answer</text>
      <${Equals} chosen=${chosen} multiplier=${multiplier} most=${1.15 * dearest} least=${least} x=${x} y=${y} />
      ${candidates.map((candidate) => html`<${Point} key=${candidate.model} candidate=${candidate} isChosen=${candidate.model === route.model} x=${x} y=${y} few=${candidates.length <= 10} />`)}
    </svg>
    ${multiplier > 0 && html`<p class="foot"><i class="dash"></i> as good a bargain as the choice; the other models lie to its right, being dearer or worse</p>`}
  </figure>`;
}

// Where the axis begins: a step of a fifth below all that is shown.
function lowest(candidates) {
  const least = Math.min(...candidates.map((candidate) => candidate.quality - candidate.uncertainty));
  return Math.min(Math.max(Math.floor(least * 5) / 5, 0), 0.8);
}

// cost − multiplier · quality = the choice's score
function Equals({ chosen, multiplier, most, least, x, y }) {
  if (!(multiplier > 0) || !chosen) return null;
  const score = chosen.cost - multiplier * chosen.quality;
  const costAt = (worth) => score + multiplier * worth;
  const worthAt = (cost) => (cost - score) / multiplier;
  const low = Math.max(least, worthAt(0));
  const high = Math.min(1, worthAt(most));
  if (!(high > low)) return null;
  return html`<line class="equals" x1=${x(costAt(low))} y1=${y(low)} x2=${x(costAt(high))} y2=${y(high)} />`;
}

function Point({ candidate, isChosen, x, y, few }) {
  const { model, cost, uncertainty } = candidate;
  const toTheLeft = x(cost) > WIDTH * 0.7;
  return html`<g class="${seriesClass(model)} point ${isChosen ? "is-chosen" : ""}">
    <title>${`${model}: quality ${quality(candidate.quality)} ± ${quality(uncertainty)}, cost ${usd(cost)}`}</title>
    <line class="whisker" x1=${x(cost)} x2=${x(cost)} y1=${y(candidate.quality - uncertainty)} y2=${y(candidate.quality + uncertainty)} />
    ${isChosen && html`<circle class="halo" cx=${x(cost)} cy=${y(candidate.quality)} r="11" />`}
    <circle cx=${x(cost)} cy=${y(candidate.quality)} r="5.500" />
    ${(few || isChosen) &&
    html`<text x=${x(cost) + (toTheLeft ? -14 : 14)} y=${y(candidate.quality) + 4} text-anchor=${toTheLeft ? "end" : "start"}>${model}</text>`}
  </g>`;
}
