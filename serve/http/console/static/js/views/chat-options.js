// The options of a chat: model, system prompt, sampling, tools and schema; and the request they make.

import { html } from "../html.js";

export const STANDARD = { model: "auto", requirement: "", system: "", temperature: "", most: "", tools: "", schema: "" };

const EXAMPLE_TOOLS = JSON.stringify(
  [
    {
      type: "function",
      function: {
        name: "get_weather",
        description: "The weather in a city",
        parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
      },
    },
  ],
  null,
  2,
);
const EXAMPLE_SCHEMA = JSON.stringify(
  { type: "object", properties: { answer: { type: "number" } }, required: ["answer"], additionalProperties: false },
  null,
  2,
);

// The body of the request, without what was left at its standard.
export function requestBody(options, messages) {
  const { model, requirement, system, temperature, most, tools, schema } = options;
  return {
    model,
    messages: system.trim() ? [{ role: "system", content: system }, ...messages] : messages,
    ...(model === "auto" && requirement !== "" ? { router: { performance_requirement: Number(requirement) } } : {}),
    ...(temperature === "" ? {} : { temperature: Number(temperature) }),
    ...(most === "" ? {} : { max_tokens: Number(most) }),
    ...(tools.trim() ? { tools: JSON.parse(tools) } : {}),
    ...(schema.trim() ? { response_format: { type: "json_schema", json_schema: { name: "answer", schema: JSON.parse(schema) } } } : {}),
  };
}

// What keeps the request from being made: [option, message].
export function problems({ tools, schema }) {
  const faults = [
    ["tools", fault(tools, Array.isArray, "a list of tools, as in OpenAI's API")],
    ["schema", fault(schema, (value) => value !== null && typeof value === "object" && !Array.isArray(value), "a JSON schema, which is an object")],
  ];
  return faults.filter(([, message]) => message);
}

function fault(text, isRight, wanted) {
  if (!text.trim()) return null;
  try {
    return isRight(JSON.parse(text)) ? null : `This must be ${wanted}.`;
  } catch (error) {
    return `This isn't JSON: ${error.message}`;
  }
}

export function Options({ options, change, models, faults }) {
  const set = (name) => (event) => change({ ...options, [name]: event.target.value });
  const message = (name) => faults.find(([at]) => at === name)?.[1];
  const names = models.length ? models.map(({ id }) => id) : ["auto"];
  return html`<section class="card options" aria-labelledby="options-title">
    <h2 id="options-title" class="visually-hidden">Options</h2>
    <div class="field">
      <label for="chat-model">Model</label>
      <select id="chat-model" value=${options.model} onChange=${set("model")}>
        ${names.map((name) => html`<option key=${name} value=${name} selected=${name === options.model}>${name === "auto" ? "auto: the router chooses" : name}</option>`)}
      </select>
    </div>
    <div class="fields">
      ${options.model === "auto" && html`<${NumberField} id="chat-requirement" label="Quality wanted" most="1" value=${options.requirement} set=${set("requirement")} />`}
      <${NumberField} id="chat-temperature" label="Temperature" most="2" value=${options.temperature} set=${set("temperature")} />
      <${NumberField} id="chat-most" label="Most tokens" step="1" least="1" value=${options.most} set=${set("most")} />
    </div>
    <div class="field">
      <label for="chat-system">System prompt</label>
      <textarea id="chat-system" rows="2" value=${options.system} onInput=${set("system")}></textarea>
    </div>
    <${JsonField} id="chat-tools" label="Tools" example=${EXAMPLE_TOOLS} value=${options.tools} set=${(tools) => change({ ...options, tools })} fault=${message("tools")} />
    <${JsonField} id="chat-schema" label="JSON schema of the answer" example=${EXAMPLE_SCHEMA} value=${options.schema} set=${(schema) => change({ ...options, schema })} fault=${message("schema")} />
  </section>`;
}

function NumberField({ id, label, value, set, most, least = "0", step = "0.05" }) {
  return html`<div class="field">
    <label for=${id}>${label}</label>
    <input id=${id} type="number" min=${least} max=${most} step=${step} placeholder="standard" value=${value} onInput=${set} />
  </div>`;
}

function JsonField({ id, label, example, value, set, fault }) {
  return html`<details class="field json">
    <summary>${label}${value.trim() && html` <b class="badge ${fault ? "bad" : "accent"}">${fault ? "not right" : "on"}</b>`}</summary>
    <label for=${id} class="visually-hidden">${label}, as JSON</label>
    <textarea id=${id} class="code" rows="7" spellcheck="false" placeholder=${example} value=${value} aria-invalid=${String(Boolean(fault))} aria-describedby="${id}-fault" onInput=${(event) => set(event.target.value)}></textarea>
    <p id="${id}-fault" class="wrong" role="status">${fault ?? ""}</p>
    <button type="button" class="ghost small" onClick=${() => set(value.trim() ? "" : example)}>${value.trim() ? "Clear" : "Take the example"}</button>
  </details>`;
}
