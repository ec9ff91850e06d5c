// A model asked for tools: their results are given here, since the page runs none.

import { html, useState } from "../html.js";

export function ToolResults({ calls, give }) {
  const [results, setResults] = useState({});
  const submit = (event) => {
    event.preventDefault();
    give(calls.map(({ id }) => ({ role: "tool", tool_call_id: id, content: results[id] ?? "" })));
  };
  return html`<form class="tool-results" onSubmit=${submit}>
    ${calls.map(
      ({ id, name }) => html`<div class="field" key=${id}>
        <label for=${`result-${id}`}>Result of <code>${name}</code></label>
        <textarea id=${`result-${id}`} rows="2" class="code" required value=${results[id] ?? ""} onInput=${(event) => setResults({ ...results, [id]: event.target.value })}></textarea>
      </div>`,
    )}
    <button class="primary small">Go on with ${calls.length === 1 ? "this result" : "these results"}</button>
  </form>`;
}
