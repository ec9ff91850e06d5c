// A line of the last minutes, as small as a word.

import { html } from "../html.js";

const WIDTH = 120;
const HEIGHT = 28;

export function Sparkline({ values, className = "", area = true }) {
  const known = (values ?? []).map((value) => value ?? 0);
  const most = Math.max(...known, 0);
  if (known.length < 2 || most === 0) {
    return html`<svg class="sparkline flat" viewBox="0 0 ${WIDTH} ${HEIGHT}" preserveAspectRatio="none" aria-hidden="true">
      <path d="M0 ${HEIGHT - 1.5}H${WIDTH}" />
    </svg>`;
  }
  const x = (place) => ((place / (known.length - 1)) * WIDTH).toFixed(1);
  const y = (value) => (HEIGHT - 1.5 - (value / most) * (HEIGHT - 4)).toFixed(1);
  const line = known.map((value, place) => `${place ? "L" : "M"}${x(place)} ${y(value)}`).join("");
  return html`<svg class="sparkline ${className}" viewBox="0 0 ${WIDTH} ${HEIGHT}" preserveAspectRatio="none" aria-hidden="true">
    ${area && html`<path class="area" d="${line}L${WIDTH} ${HEIGHT}L0 ${HEIGHT}Z" />`}
    <path d=${line} />
  </svg>`;
}

// The means of as many neighbouring values as leave at most `most` points.
export function thinned(values, most = 60) {
  const step = Math.ceil(values.length / most);
  if (step <= 1) return values;
  const means = [];
  for (let end = values.length; end > 0; end -= step) {
    const group = values.slice(Math.max(end - step, 0), end).filter((value) => value !== null);
    means.unshift(group.length ? group.reduce((sum, value) => sum + value, 0) / group.length : null);
  }
  return means;
}
