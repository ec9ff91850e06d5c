// Asks for the API key where the server wants one; and the button that forgets it.

import { html, useEffect, useRef, useState } from "../html.js";
import { forgetKey, key, onKey, setKey } from "../key.js";
import { Icon } from "./icons.js";

export function KeyDialog() {
  const dialog = useRef(null);
  const field = useRef(null);
  const [wrong, setWrong] = useState(false);

  useEffect(
    () =>
      onKey((what) => {
        if (what === "changed") return;
        setWrong(what === "unknown");
        if (!dialog.current.open) dialog.current.showModal();
      }),
    [],
  );
  const enter = (event) => {
    event.preventDefault();
    const given = field.current.value.trim();
    if (!given) return;
    field.current.value = "";
    dialog.current.close();
    setKey(given);
  };
  return html`<dialog ref=${dialog} class="key-dialog" aria-labelledby="key-title" aria-describedby="key-about">
    <form onSubmit=${enter}>
      <span class="key-mark"><${Icon} name="key" /></span>
      <h2 id="key-title">This router asks for a key</h2>
      <p id="key-about">It stays in this browser tab and is gone when you close it. You see the traffic and the models of this key.</p>
      <label for="key-field">API key</label>
      <input id="key-field" ref=${field} type="password" autocomplete="off" spellcheck="false" required aria-invalid=${String(wrong)} aria-errormessage="key-wrong" />
      <p id="key-wrong" class="wrong" role="alert">${wrong ? "The router doesn't know this key." : ""}</p>
      <div class="actions">
        <button type="button" class="ghost" onClick=${() => dialog.current.close()}>Not now</button>
        <button class="primary">Continue</button>
      </div>
    </form>
  </dialog>`;
}

export function KeyButton() {
  const [has, setHas] = useState(key() !== null);
  useEffect(() => onKey(() => setHas(key() !== null)), []);
  if (!has) return null;
  return html`<button type="button" class="ghost" onClick=${forgetKey}>
    <${Icon} name="key" /><span>Forget<span class="wide"> the key</span></span>
  </button>`;
}
