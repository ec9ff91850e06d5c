// The curve by uPlot: cost to the right, quality upwards; models alone as dots, we as a ring.

import { resolved, seriesColour } from "../colours.js";
import { quality, usd } from "../format.js";
import { html, useEffect, useRef } from "../html.js";
import { axes, faint } from "../parts/plot.js";
import { useThemeVersion } from "../theming.js";

const HEIGHT = 340;

export function TradeoffPlot({ data, at, hover }) {
  const place = useRef(null);
  const plot = useRef(null);
  const marked = useRef(at);
  const theme = useThemeVersion();
  marked.current = at;

  useEffect(() => {
    // uPlot wants x in order; each place on the curve keeps the number of its point.
    const order = data.points.map((_, n) => n).sort((one, other) => data.points[one].usd_per_1000 - data.points[other].usd_per_1000);
    const xs = order.map((n) => data.points[n].usd_per_1000);
    const ys = order.map((n) => data.points[n].quality);
    const accent = resolved("var(--accent)");
    const options = {
      width: place.current.clientWidth || 400,
      height: HEIGHT,
      padding: [14, 18, 0, 0],
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false }, points: { show: false } },
      scales: { x: { time: false, range: () => [0, 1.08 * furthest(data)] }, y: { range: () => heights(data) } },
      axes: axes(quality, usd),
      series: [{}, { stroke: accent, width: 2.5, fill: faint(accent, 0.07), points: { show: false } }],
      hooks: {
        setCursor: [(u) => u.cursor.idx !== null && u.cursor.idx !== undefined && hover(order[u.cursor.idx])],
        draw: [(u) => marks(u, data, data.points[Math.min(marked.current, data.points.length - 1)])],
      },
    };
    plot.current = new window.uPlot(options, [xs, ys], place.current);
    const observer = new ResizeObserver(([{ contentRect }]) => {
      if (contentRect.width) plot.current.setSize({ width: contentRect.width, height: HEIGHT });
    });
    observer.observe(place.current);
    return () => {
      observer.disconnect();
      plot.current.destroy();
    };
  }, [data, theme]);
  useEffect(() => plot.current.redraw(false), [at]);

  const said = data.models.map((model) => `${model.name} ${quality(model.quality)} for ${usd(model.usd_per_1000)}`).join("; ");
  return html`<div class="plot" ref=${place} role="img" aria-label=${`Predicted mean quality against cost per 1,000 queries. Models alone: ${said}`}></div>`;
}

function furthest({ points, models }) {
  return Math.max(...[...points, ...models].map((place) => place.usd_per_1000 ?? 0), Number.MIN_VALUE);
}

function heights({ points, models }) {
  const all = [...points, ...models].map((place) => place.quality).filter((value) => value !== null);
  return [Math.max(0, Math.min(...all) - 0.06), Math.min(1.02, Math.max(...all) + 0.06)];
}

function marks(u, data, point) {
  const { ctx } = u;
  const ratio = devicePixelRatio;
  const x = (place) => u.valToPos(place.usd_per_1000, "x", true);
  const y = (place) => u.valToPos(place.quality, "y", true);
  const text = resolved("var(--text)");
  const surface = resolved("var(--surface)");
  const circle = (place, radius, fill, stroke, width) => {
    ctx.beginPath();
    ctx.arc(x(place), y(place), radius * ratio, 0, 2 * Math.PI);
    ctx.fillStyle = fill;
    ctx.fill();
    if (!stroke) return;
    ctx.lineWidth = width * ratio;
    ctx.strokeStyle = stroke;
    ctx.stroke();
  };
  ctx.save();
  ctx.font = `500 ${12 * ratio}px Inter, system-ui, sans-serif`;
  const few = data.models.length <= 12;
  for (const model of data.models) {
    circle(model, 5, seriesColour(model.name), surface, 2);
    if (!few) continue;
    const right = x(model) > u.bbox.left + 0.7 * u.bbox.width;
    ctx.textAlign = right ? "right" : "left";
    ctx.fillStyle = text;
    ctx.fillText(model.name, x(model) + (right ? -10 : 10) * ratio, y(model) + 16 * ratio);
  }
  const accent = resolved("var(--accent)");
  if (data.now) circle(data.now, 7, surface, accent, 3);
  circle(point, 4, accent, surface, 2);
  ctx.restore();
}
