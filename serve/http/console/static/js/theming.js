// The theme: the system's, or the one chosen here, and who draws again when it changes.

import { html, useEffect, useState } from "./html.js";
import { Icon } from "./parts/icons.js";

const PLACE = "llm-cores-theme";
const NEXT = { system: "light", light: "dark", dark: "system" };
const ICONS = { system: "system", light: "sun", dark: "moon" };
const CHANGED = "llm-cores-theme-changed";
const system = matchMedia("(prefers-color-scheme: dark)");

export function ThemeButton() {
  const [theme, setTheme] = useState(document.documentElement.dataset.theme ?? "system");
  const next = () => {
    choose(NEXT[theme]);
    setTheme(NEXT[theme]);
  };
  return html`<button
    type="button"
    class="ghost icon-button"
    aria-label=${`Theme: ${theme}. Change to ${NEXT[theme]}`}
    title=${`Theme: ${theme}`}
    onClick=${next}
  ><${Icon} name=${ICONS[theme]} /></button>`;
}

function choose(theme) {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  try {
    localStorage.setItem(PLACE, theme);
  } catch {
    // The browser keeps nothing for this page: the choice holds until it is left.
  }
  dispatchEvent(new Event(CHANGED));
}

// A number that grows with each change of the theme: colours on a canvas are drawn again by it.
export function useThemeVersion() {
  const [version, setVersion] = useState(0);
  useEffect(() => {
    const changed = () => setVersion((last) => last + 1);
    addEventListener(CHANGED, changed);
    system.addEventListener("change", changed);
    return () => {
      removeEventListener(CHANGED, changed);
      system.removeEventListener("change", changed);
    };
  }, []);
  return version;
}
