// The choice in words: who would answer, why, and what the multiplier means.

import { quality, reason, usd } from "../format.js";
import { html } from "../html.js";
import { ModelName } from "../parts/basics.js";

export function Verdict({ explained }) {
  const { route } = explained;
  const chosen = route.candidates.find(({ model }) => model === route.model);
  return html`<section class="card verdict" aria-live="polite">
    <div>
      <p class="kicker">${explained.cold_start ? "Cold start: quality is estimated from prices" : "The choice"}</p>
      <h2><${ModelName} name=${route.model} /></h2>
      <p class="because-line">${sentence(route.reason)}</p>
      ${"mode" in explained && html`<p class="second">${meaning(explained)}</p>`}
    </div>
    ${chosen?.quality !== undefined &&
    html`<dl class="verdict-figures">
      <div><dt>Predicted quality</dt><dd>${quality(chosen.quality)}<span class="second"> ± ${quality(chosen.uncertainty)}</span></dd></div>
      <div><dt>Predicted cost</dt><dd>${usd(chosen.cost)}</dd></div>
      <div><dt>Against the best</dt><dd>${againstBest(route, chosen)}</dd></div>
    </dl>`}
  </section>`;
}

function sentence(text) {
  const said = reason(text);
  return said && `${said[0].toUpperCase()}${said.slice(1)}.`;
}

// The multiplier in one sentence.
function meaning({ multiplier, mode }) {
  if (mode === "floor") return "Each answer must reach the quality wanted by itself, so the cheapest that does is chosen.";
  if (multiplier === null) return "No price for quality would be enough to reach what is wanted, so the best model is chosen.";
  if (multiplier === 0) return "Quality is worth nothing extra right now: recent answers are good enough, so the cheapest model is chosen.";
  return `Right now the router pays up to ${usd(multiplier / 100)} for one more hundredth of quality, so that answers reach what is wanted on average: the model with the least cost minus that worth is chosen.`;
}

function againstBest(route, chosen) {
  const best = route.candidates.reduce((one, other) => (other.quality > (one.quality ?? 0) ? other : one));
  if (best.model === chosen.model) return "it is the best";
  if (!best.cost) return "–";
  const ratio = chosen.cost / best.cost;
  return ratio <= 1 ? `${Math.round(100 * (1 - ratio))} % cheaper` : `${ratio.toFixed(1)} × the cost`;
}
