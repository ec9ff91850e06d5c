// A plot over time by uPlot: lines, or areas stacked on one another, with a legend that shows the
// values under the pointer.

import { html, useEffect, useMemo, useRef, useState } from "../html.js";
import { resolved, seriesClass, seriesColour } from "../colours.js";
import { clock } from "../format.js";
import { useThemeVersion } from "../theming.js";

const HEIGHT = 190;

export function TimePlot({ title, unit, times, series, stacked = false, format }) {
  const place = useRef(null);
  const plot = useRef(null);
  const [at, setAt] = useState(null);
  const theme = useThemeVersion();
  const names = series.map(({ name }) => name).join("\n");
  const drawn = useMemo(
    () => [times, ...(stacked ? sums(series) : series.map(({ values }) => values))],
    [times, series, stacked],
  );

  useEffect(() => {
    const options = {
      width: place.current.clientWidth || 400,
      height: HEIGHT,
      padding: [8, 4, 0, 0],
      legend: { show: false },
      cursor: { y: false, points: { size: 7, width: 2 }, drag: { x: false, y: false } },
      scales: { y: { range: (_, __, most) => [0, most > 0 ? most * 1.1 : 1] } },
      axes: axes(format),
      series: [{}, ...series.map(({ name }) => line(name, stacked))],
      bands: stacked ? series.slice(1).map((_, n) => ({ series: [n + 1, n + 2] })) : undefined,
      hooks: { setCursor: [(u) => setAt(u.cursor.idx ?? null)] },
    };
    plot.current = new window.uPlot(options, drawn, place.current);
    const observer = new ResizeObserver(([{ contentRect }]) => {
      if (contentRect.width) plot.current.setSize({ width: contentRect.width, height: HEIGHT });
    });
    observer.observe(place.current);
    return () => {
      observer.disconnect();
      plot.current.destroy();
    };
  }, [names, stacked, theme]);
  useEffect(() => plot.current.setData(drawn), [drawn]);

  const shown = at === null ? times.length - 1 : Math.min(at, times.length - 1);
  const values = series.map(({ name, values }) => [name, format(values[shown])]);
  const said = values.map(([name, value]) => `${name} ${value}`).join(", ");
  return html`<figure class="card plot-card">
    <figcaption>
      <h2>${title} <span class="unit">${unit}</span></h2>
      <span class="at">${at === null ? "now" : clock(times[shown])}</span>
    </figcaption>
    <div class="plot" ref=${place} role="img" aria-label=${`${title}, ${unit}, over ten minutes; now: ${said || "no traffic"}`}></div>
    <ul class="legend">
      ${values.map(
        ([name, value]) => html`<li key=${name}>
          <i class="dot ${seriesClass(name)}"></i><span class="name">${name}</span><b>${value}</b>
        </li>`,
      )}
    </ul>
  </figure>`;
}

export function axes(format, formatX) {
  const stroke = resolved("var(--muted)");
  const grid = { stroke: resolved("var(--grid)"), width: 1 };
  const font = "11px Inter, system-ui, sans-serif";
  const common = { stroke, font, ticks: { show: false } };
  return [
    {
      ...common,
      grid: { show: false },
      space: 70,
      size: 28,
      gap: 6,
      values: (_, ticks) => ticks.map(formatX ?? ((tick) => clock(tick).slice(0, 5))),
    },
    {
      ...common,
      grid,
      space: 36,
      gap: 6,
      size: 56,
      values: (_, ticks) => ticks.map((tick) => (tick === 0 ? "0" : format(tick))),
    },
  ];
}

function line(name, stacked) {
  const stroke = seriesColour(name);
  return {
    stroke,
    width: 1.75,
    fill: stacked ? faint(stroke, 0.18) : undefined,
    points: { show: false },
    spanGaps: true,
  };
}

// A colour as `resolved` gives it, with an opacity.
export function faint(colour, opacity) {
  return colour.replace(/^rgb\((.*)\)$/, `rgba($1, ${opacity})`);
}

// Each series upon those after it, so that the first one's line is the sum of all.
function sums(series) {
  const stacked = [];
  let below = null;
  for (const { values } of [...series].reverse()) {
    const lower = below;
    below = values.map((value, n) => (value ?? 0) + (lower ? lower[n] : 0));
    stacked.unshift(below);
  }
  return stacked;
}
