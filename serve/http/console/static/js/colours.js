// A colour for each model, the same in all views: by its place among the names. Eight can be told
// apart; the ninth has the first one's, and a name beside it.

const MOST = 8;
let places = new Map();

export function setNames(names) {
  const sorted = [...names].sort();
  if (sorted.length === places.size && sorted.every((name) => places.has(name))) return;
  places = new Map(sorted.map((name, place) => [name, place]));
}

// The class that carries the colour, as --series.
export function seriesClass(name) {
  return places.has(name) ? `series-${(places.get(name) % MOST) + 1}` : "series-0";
}

// A colour of the theme as a canvas takes it. `expression` is CSS, such as `var(--text)`.
export function resolved(expression, className = "") {
  const probe = document.createElement("span");
  probe.className = className;
  probe.style.color = expression;
  document.body.append(probe);
  const colour = getComputedStyle(probe).color;
  probe.remove();
  return colour;
}

export function seriesColour(name) {
  return resolved("var(--series)", seriesClass(name));
}
