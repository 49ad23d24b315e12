// What every page does: times in the viewer's zone, theme, copy buttons, toasts, calls of the API with the token.

const body = document.body;

/** Calls the API as whoever is signed in: `api("/v1/files", {method: "POST", body})`. */
export async function api(path, options = {}) {
  const headers = new Headers(options.headers);
  if (options.method && options.method !== "GET") headers.set("X-CSRF-Token", body.dataset.csrf ?? "");
  const answer = await fetch(`/ui/api${path}`, { ...options, headers });
  if (answer.status === 401) location.assign(`/ui/sign-in?next=${encodeURIComponent(location.pathname)}`);
  return answer;
}

/** The sentence of an error that the API answered. */
export async function problemOf(answer) {
  try {
    return (await answer.json()).error.message;
  } catch {
    return `HTTP ${answer.status}`;
  }
}

/** A line at the corner of the page that goes away by itself. */
/** Shows a sentence of the server, without its words for programs; what stands in backticks is code. */
export function tell(place, sentence) {
  const plain = String(sentence).replace(/ ?GET \/v1\/[^.]*\.| \((?:GET|POST|DELETE) \/v1\/[^)]*\)/g, "");
  place.replaceChildren(...plain.split(/(?<!`)`([^`\n]+)`(?!`)/).map((part, n) => {
    if (n % 2 === 0) return part;
    const code = document.createElement("code");
    code.textContent = part;
    return code;
  }));
}

export function toast(message) {
  const line = document.createElement("p");
  line.className = "toast";
  tell(line, message);
  document.getElementById("toasts").append(line);
  setTimeout(() => line.remove(), 6000);
}

function localTimes(root) {
  const shown = new Intl.DateTimeFormat(document.documentElement.lang, { dateStyle: "medium", timeStyle: "short" });
  for (const one of root.querySelectorAll("time[datetime]:not([title])")) {
    one.title = one.textContent;
    one.textContent = shown.format(new Date(one.dateTime));
  }
}

function copySelected(source) {
  getSelection().selectAllChildren(source);
  document.execCommand("copy");
}

async function copy(button) {
  const source = document.getElementById(button.dataset.copy);
  if (navigator.clipboard) await navigator.clipboard.writeText(source.textContent);
  else copySelected(source); // over plain HTTP, browsers have no clipboard for pages but on localhost
  toast(body.dataset.copied);
}

function wideMenu() {
  const menu = document.querySelector("[data-menu]");
  if (menu) menu.open = matchMedia("(min-width: 60.01rem)").matches;
}

function themeSwitch() {
  const dark = document.documentElement.dataset.theme === "dark"
    || (!document.documentElement.dataset.theme && matchMedia("(prefers-color-scheme: dark)").matches);
  for (const link of document.querySelectorAll("[data-theme-switch]")) link.href = `?theme=${dark ? "light" : "dark"}`;
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-copy]");
  if (button) copy(button);
});
document.addEventListener("htmx:afterSwap", (event) => localTimes(event.target));
matchMedia("(min-width: 60.01rem)").addEventListener("change", wideMenu);
localTimes(document);
wideMenu();
themeSwitch();
