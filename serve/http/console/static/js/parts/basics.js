// Small parts that every view has: names of models, tiles, errors, copying.

import { html, useEffect, useState } from "../html.js";
import { seriesClass } from "../colours.js";
import { Icon } from "./icons.js";

export function ModelName({ name }) {
  return html`<span class="model-name"><i class="dot ${seriesClass(name)}"></i>${name}</span>`;
}

// A figure with its name above and what it means below.
export function Tile({ name, value, more, title, tone = "", children }) {
  return html`<div class="tile ${tone}">
    <dt>${name}</dt>
    <dd class="value" title=${title}>${value}</dd>
    ${more && html`<dd class="more">${more}</dd>`}
    ${children && html`<dd class="decoration" aria-hidden="true">${children}</dd>`}
  </div>`;
}

// What went wrong, where it went wrong, and another try.
export function ErrorNote({ error, retry }) {
  return html`<div class="error-note" role="alert">
    <${Icon} name="warning" />
    <p>${error.message}</p>
    ${retry && html`<button type="button" class="small" onClick=${retry}>Try again</button>`}
  </div>`;
}

export function Empty({ title, children }) {
  return html`<div class="empty"><p class="empty-title">${title}</p><p>${children}</p></div>`;
}

export function CopyButton({ text, what }) {
  const [copied, setCopied] = useState(false);
  useEffect(() => {
    if (!copied) return undefined;
    const timer = setTimeout(() => setCopied(false), 2000);
    return () => clearTimeout(timer);
  }, [copied]);
  const copy = () => copyText(text).then(() => setCopied(true));
  return html`<button type="button" class="ghost small" aria-label=${`Copy ${what}`} onClick=${copy}>
    <${Icon} name=${copied ? "check" : "copy"} /><span aria-live="polite">${copied ? "Copied" : "Copy"}</span>
  </button>`;
}

// Over plain HTTP, on any host but this machine, browsers have no clipboard API.
async function copyText(text) {
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(text);
    return;
  }
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "visually-hidden";
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

// A choice of one of a few, as buttons side by side.
export function Segments({ label, options, chosen, choose }) {
  return html`<div class="segments" role="group" aria-label=${label}>
    ${options.map(
      ([value, name]) => html`<button
        type="button"
        key=${value}
        aria-pressed=${String(value === chosen)}
        onClick=${() => choose(value)}
      >${name}</button>`,
    )}
  </div>`;
}
