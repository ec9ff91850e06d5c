// The chat's next request as curl and as Python, to copy. The key stays a variable's name.

import { baseUrl } from "../api.js";
import { html, useState } from "../html.js";
import { CopyButton, Segments } from "../parts/basics.js";

const LANGUAGES = [
  ["curl", "curl"],
  ["python", "Python"],
];
// What OpenAI's Python client takes only in `extra_body`.
const EXTRA = ["router", "models"];

export function Code({ body }) {
  const [language, setLanguage] = useState("curl");
  const text = body === null ? "" : language === "curl" ? curl(body) : python(body);
  return html`<section class="card code-card" aria-labelledby="code-title">
    <div class="card-head">
      <h2 id="code-title">As code</h2>
      <${Segments} label="Language" options=${LANGUAGES} chosen=${language} choose=${setLanguage} />
      <${CopyButton} text=${text} what="the code" />
    </div>
    <pre tabindex="0" aria-label="The request as code">${text || "The options above need a correction first."}</pre>
  </section>`;
}

function curl(body) {
  const json = JSON.stringify({ ...body, stream: true }, null, 2).replaceAll("'", "'\\''");
  return [
    `curl ${baseUrl()}/chat/completions \\`,
    `  -H "authorization: Bearer $LLM_CORES_API_KEY" \\`,
    `  -H 'content-type: application/json' \\`,
    `  -N -d '${json}'`,
  ].join("\n");
}

function python(body) {
  const extra = Object.fromEntries(Object.entries(body).filter(([name]) => EXTRA.includes(name)));
  const given = Object.entries(body).filter(([name]) => !EXTRA.includes(name));
  const lines = given.map(([name, value]) => `    ${name}=${literal(value, 4)},`);
  if (Object.keys(extra).length) lines.push(`    extra_body=${literal(extra, 4)},`);
  return [
    "import os",
    "",
    "from openai import OpenAI",
    "",
    "client = OpenAI(",
    `    base_url=${literal(baseUrl())},`,
    `    api_key=os.environ.get("LLM_CORES_API_KEY", "none"),`,
    ")",
    "stream = client.chat.completions.create(",
    ...lines,
    "    stream=True,",
    ")",
    "for chunk in stream:",
    "    if chunk.choices:",
    `        print(chunk.choices[0].delta.content or "", end="", flush=True)`,
  ].join("\n");
}

// A JSON value as Python writes it.
function literal(value, indent = 0) {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (typeof value !== "object") return JSON.stringify(value);
  const inner = " ".repeat(indent + 4);
  const isList = Array.isArray(value);
  const items = isList
    ? value.map((item) => literal(item, indent + 4))
    : Object.entries(value).map(([name, item]) => `${JSON.stringify(name)}: ${literal(item, indent + 4)}`);
  const [open, close] = isList ? "[]" : "{}";
  const flat = `${open}${items.join(", ")}${close}`;
  if (flat.length + indent <= 60 && !flat.includes("\n")) return flat;
  return `${open}\n${items.map((item) => `${inner}${item},\n`).join("")}${" ".repeat(indent)}${close}`;
}
