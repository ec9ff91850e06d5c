// Cost and quality: what each requirement would have cost, where we are, and what was saved.

import { get } from "../api.js";
import { setNames } from "../colours.js";
import { count, exactly, plural, quality, share, usd } from "../format.js";
import { html, useCallback, useEffect, useMemo, useState } from "../html.js";
import { Empty, ErrorNote, ModelName, Tile } from "../parts/basics.js";
import { seriesClass } from "../colours.js";
import { useLoaded } from "../polling.js";
import { TradeoffPlot } from "./tradeoff-plot.js";

export function Tradeoff({ active }) {
  const { data, error, loading, retry } = useLoaded(
    useCallback((signal) => get("console/tradeoff", signal), []),
    active,
  );
  useEffect(() => data && setNames(data.models.map(({ name }) => name)), [data]);
  return html`
    <div class="view-head">
      <div>
        <h1>Cost and quality</h1>
        <p class="lede">What each quality requirement would have cost on the past queries in the store.</p>
      </div>
      <div class="actions"><button type="button" disabled=${loading} onClick=${retry}>${loading ? "Computing …" : "Compute again"}</button></div>
    </div>
    ${error?.status === 404 && html`<${Empty} title="No curve yet">${error.message}<//>`}
    ${error && error.status !== 404 && html`<${ErrorNote} error=${error} retry=${retry} />`}
    ${data && html`<${Curve} data=${data} />`}
    ${!data && !error && html`<div class="skeleton" aria-hidden="true"><i></i><i></i></div>`}
  `;
}

function Curve({ data }) {
  const { points, now, best, saved } = data;
  const start = useMemo(() => nearest(points, now?.performance_requirement), [data]);
  const [at, setAt] = useState(start);
  useEffect(() => setAt(start), [start]);
  const point = points[Math.min(at, points.length - 1)];
  return html`
    <dl class="tiles">
      <${Tile} name="Saved" value=${share(saved?.share)} tone=${saved?.share > 0 ? "good" : ""} title=${exactly(saved?.usd)} more=${saved ? `${usd(saved.usd)} over ${plural(saved.answers, "answer")}, against the best model for each` : "not known yet"} />
      <${Tile} name="Wanted now" value=${quality(now?.performance_requirement)} more="mean quality" />
      <${Tile} name="Costs" value=${usd(now?.usd_per_1000)} title=${exactly(now?.usd_per_1000)} more="per 1,000 queries, predicted" />
      <${Tile} name="Always the best" value=${usd(best?.usd_per_1000)} title=${exactly(best?.usd_per_1000)} more=${best ? `per 1,000 queries, by ${best.name}` : "no single best model"} />
    </dl>
    <div class="two uneven">
      <figure class="card plot-card">
        <figcaption><h2>Quality <span class="unit">against cost per 1,000 queries</span></h2><span class="at">predicted</span></figcaption>
        <${TradeoffPlot} data=${data} at=${at} hover=${setAt} />
        <ul class="legend">
          <li><i class="key-line"></i>the router, by requirement</li>
          <li><i class="key-ring"></i>where we are</li>
          <li><i class="key-dot"></i>one model alone</li>
        </ul>
        <p class="foot">From ${plural(data.queries, "past query", "past queries")} in the store. These are predictions, not measurements; how far they may be off isn’t known yet.</p>
      </figure>
      <section class="card at-requirement" aria-labelledby="at-title">
        <div class="card-head"><h2 id="at-title">At a requirement of ${quality(point.performance_requirement)}</h2></div>
        <input
          type="range"
          min="0"
          max=${points.length - 1}
          step="1"
          value=${at}
          aria-label="Quality requirement"
          aria-valuetext=${quality(point.performance_requirement)}
          onInput=${(event) => setAt(Number(event.target.value))}
        />
        <dl class="pair">
          <div><dt>Mean quality</dt><dd>${quality(point.quality)}</dd></div>
          <div><dt>Per 1,000 queries</dt><dd title=${exactly(point.usd_per_1000)}>${usd(point.usd_per_1000)}</dd></div>
          ${best && html`<div><dt>Against the best</dt><dd>${cheaper(point, best)}</dd></div>`}
        </dl>
        <h3>Who would answer</h3>
        <${Shares} shares=${point.shares} />
      </section>
    </div>
  `;
}

function Shares({ shares }) {
  const sorted = Object.entries(shares).sort(([, one], [, other]) => other - one).filter(([, part]) => part > 0);
  return html`<ul class="shares">
    ${sorted.slice(0, 10).map(
      ([name, part]) => html`<li key=${name}>
        <span><${ModelName} name=${name} /></span><b>${share(part)}</b>
        <svg class="share-bar ${seriesClass(name)}" viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true"><rect class="track" width="100" height="6" /><rect class="fill" width=${100 * part} height="6" /></svg>
      </li>`,
    )}
    ${sorted.length > 10 && html`<li class="second">and ${count(sorted.length - 10)} more</li>`}
  </ul>`;
}

function cheaper(point, best) {
  if (!best.usd_per_1000) return "–";
  const saved = 1 - point.usd_per_1000 / best.usd_per_1000;
  return saved >= 0 ? `${Math.round(100 * saved)} % cheaper` : `${Math.round(-100 * saved)} % dearer`;
}

function nearest(points, requirement) {
  if (requirement === undefined || requirement === null) return points.length - 1;
  const distance = ({ performance_requirement: wanted }) => Math.abs(wanted - requirement);
  return points.reduce((best, point, n) => (distance(point) < distance(points[best]) ? n : best), 0);
}
