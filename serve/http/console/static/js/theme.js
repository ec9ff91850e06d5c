// Puts the chosen theme on the page before it is drawn; without a choice, the system's holds.
try {
  const chosen = localStorage.getItem("llm-cores-theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch {
  // The browser keeps nothing for this page: the system's theme holds.
}
