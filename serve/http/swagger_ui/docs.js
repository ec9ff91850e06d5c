// Fetches the API's description, with a key where the server asks for one, and shows it.

const form = document.getElementById("ask");
const field = document.getElementById("key");
const message = document.getElementById("message");

async function show(key) {
  const headers = key ? { authorization: `Bearer ${key}` } : {};
  const reply = await fetch("openapi.json", { headers });
  const content = await reply.json();
  form.hidden = reply.status !== 401;
  if (!form.hidden) field.focus();
  if (reply.ok) {
    message.textContent = "";
    const ui = SwaggerUIBundle({
      spec: content,
      dom_id: "#ui",
      onComplete: () => key && ui.preauthorizeApiKey("bearer", key),
    });
  } else if (form.hidden) {
    message.textContent = content.error.message;
  } else if (key) {
    message.textContent = "The server does not know this key.";
  }
}

function attempt(key) {
  show(key).catch((error) => {
    message.textContent = `The description could not be loaded: ${error.message}`;
  });
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(field.value);
});
attempt("");
