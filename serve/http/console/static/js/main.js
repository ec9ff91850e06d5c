// The page: its tabs, which of them is shown by the address, and what asks for a key.

import { html, render, useEffect, useRef, useState } from "./html.js";
import { KeyButton, KeyDialog } from "./parts/key-dialog.js";
import { Icon } from "./parts/icons.js";
import { ThemeButton } from "./theming.js";
import { Chat } from "./views/chat.js";
import { Live } from "./views/live.js";
import { Tradeoff } from "./views/tradeoff.js";
import { Why } from "./views/why.js";

const VIEWS = {
  live: { title: "Live", short: "Live", View: Live },
  why: { title: "Why this model", short: "Why", View: Why },
  tradeoff: { title: "Cost and quality", short: "Cost", View: Tradeoff },
  chat: { title: "Try it", short: "Try it", View: Chat },
};

function App() {
  const [shown, setShown] = useState(named);
  // A view that was left keeps what it holds, and its streams go on.
  const [visited, setVisited] = useState([shown]);
  const main = useRef(null);

  useEffect(() => {
    const changed = () => {
      const name = named();
      setShown(name);
      setVisited((before) => (before.includes(name) ? before : [...before, name]));
      scrollTo(0, 0);
    };
    addEventListener("hashchange", changed);
    return () => removeEventListener("hashchange", changed);
  }, []);
  useEffect(() => {
    document.title = `${VIEWS[shown].title} · LLM Cores`;
  }, [shown]);

  const skip = (event) => {
    event.preventDefault();
    main.current.focus();
  };
  return html`
    <a class="skip" href="#main" onClick=${skip}>Skip to the content</a>
    <header class="top-bar">
      <a class="brand" href="#live" aria-label="LLM Cores, live view">
        <img src="console/static/icon.svg" alt="" width="24" height="24" /><span>LLM Cores</span>
      </a>
      <nav aria-label="Views">
        ${Object.entries(VIEWS).map(
          ([name, { title, short }]) => html`<a
            key=${name}
            href=${`#${name}`}
            aria-current=${name === shown ? "page" : undefined}
            aria-label=${title}
          ><${Icon} name=${name} /><span class="long">${title}</span><span class="short">${short}</span></a>`,
        )}
      </nav>
      <div class="tools">
        <${KeyButton} />
        <a class="ghost docs-link" href="docs">API</a>
        <${ThemeButton} />
      </div>
    </header>
    <main id="main" tabindex="-1" ref=${main}>
      ${visited.map((name) => {
        const { View } = VIEWS[name];
        return html`<section key=${name} id=${`view-${name}`} hidden=${name !== shown}>
          <${View} active=${name === shown} />
        </section>`;
      })}
    </main>
    <${KeyDialog} />
  `;
}

function named() {
  const name = location.hash.slice(1);
  return Object.hasOwn(VIEWS, name) ? name : "live";
}

render(html`<${App} />`, document.getElementById("app"));
