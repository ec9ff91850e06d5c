// A model's Markdown as elements. Nothing in it runs or loads: marked makes HTML of it, DOMPurify
// keeps a few tags of that without styles, ids or pictures, and links open elsewhere, unreferred.

import { html, useLayoutEffect, useRef } from "./html.js";
import { marked } from "../vendor/marked/marked.esm.js";

const KEPT = {
  ALLOWED_TAGS: [
    ..."p br hr h1 h2 h3 h4 h5 h6 strong em del code pre blockquote ul ol li a".split(" "),
    ..."table thead tbody tr th td sub sup".split(" "),
  ],
  ALLOWED_ATTR: ["href", "start", "align"],
  ALLOWED_URI_REGEXP: /^(?:https?:|mailto:)/i,
  ADD_URI_SAFE_ATTR: ["start", "align"], // no addresses, which is what DOMPurify takes others for
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
};

export function Markdown({ text }) {
  const place = useRef(null);
  useLayoutEffect(() => place.current.replaceChildren(elements(text)), [text]);
  return html`<div class="prose" ref=${place}></div>`;
}

function elements(text) {
  // Tags that a model writes are text, not markup.
  const escaped = marked.parse(text, { async: false, gfm: true, breaks: true, walkTokens });
  const fragment = window.DOMPurify.sanitize(escaped, KEPT);
  for (const link of fragment.querySelectorAll("a")) {
    link.rel = "noopener noreferrer nofollow";
    link.target = "_blank";
  }
  // What scrolls can be reached by keyboard.
  for (const block of fragment.querySelectorAll("pre, table")) block.tabIndex = 0;
  return fragment;
}

function walkTokens(token) {
  if (token.type !== "html") return;
  token.type = "text";
  token.escaped = false;
  token.text = token.raw;
  delete token.tokens;
}
