// Numbers as people read them; what isn't known is a dash.

export const UNKNOWN = "–";

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

// Three significant digits, without an exponent.
function digits(value, most = 3) {
  if (value === 0) return "0";
  const before = Math.floor(Math.log10(Math.abs(value))) + 1;
  const places = Math.min(Math.max(most - before, 0), 12);
  return value.toLocaleString("en", { maximumFractionDigits: places });
}

export function count(value) {
  if (!isNumber(value)) return UNKNOWN;
  if (value >= 1e6) return `${digits(value / 1e6)} M`;
  return value >= 10_000 ? `${digits(value / 1e3)} k` : digits(value);
}

// Dollars; millionths of one where it is less than a thousandth.
export function usd(value) {
  if (!isNumber(value)) return UNKNOWN;
  const size = Math.abs(value);
  const sign = value < 0 ? "−" : "";
  if (size === 0) return "$0";
  if (size < 1e-3) return `${sign}${digits(size * 1e6)} µ$`;
  return `${sign}$${size >= 1 ? size.toLocaleString("en", { maximumFractionDigits: 2, minimumFractionDigits: 2 }) : digits(size)}`;
}

// The same amount in full, for those who hover.
export function exactly(value) {
  return isNumber(value) ? `$${value.toFixed(12).replace(/\.?0+$/, "")}` : "not known";
}

export function duration(seconds) {
  if (!isNumber(seconds)) return UNKNOWN;
  if (seconds < 0.0995) return `${digits(seconds * 1000, 2)} ms`;
  if (seconds < 0.9995) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 60) return `${digits(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  return `${minutes} min ${Math.round(seconds - 60 * minutes)} s`;
}

export function share(value) {
  return isNumber(value) ? `${digits(100 * value, value < 0.1 ? 2 : 3)} %` : UNKNOWN;
}

export function quality(value) {
  return isNumber(value) ? value.toFixed(2) : UNKNOWN;
}

// The router's reason, which is plain ASCII with exponents, as people write it.
export function reason(text) {
  return text.replaceAll("+-", " ± ").replace(/\$(\d[\d.]*(?:e-?\d+)?)/g, (_, dollars) => usd(Number(dollars)));
}

export function clock(unix) {
  return isNumber(unix) ? new Date(unix * 1000).toLocaleTimeString("en-GB") : UNKNOWN;
}

export function plural(n, one, many = `${one}s`) {
  return `${count(n)} ${n === 1 ? one : many}`;
}
