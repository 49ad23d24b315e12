// Parts of a page that are asked for again: `data-part` is the address, `data-every` the seconds between two looks.

/** Asks for a part again and shows it; the focus, and what was ticked or scrolled in it, stay. Whether it is new. */
export async function refresh(part) {
  let answer;
  looks += 1;
  try {
    const seen = looks % WHOLE ? (versions.get(part) ?? "") : ""; // numbers that no write tells of change too
    answer = await fetch(part.dataset.part, { headers: { "HX-Request": "true", "X-Version": seen } });
  } catch {
    return false; // the server is away: the next look comes
  }
  if (answer.status === 401) location.reload();
  if (!answer.ok) return false;
  if (answer.status === 204) return true;
  versions.set(part, answer.headers.get("X-Version"));
  const text = await answer.text();
  return text === shown.get(part) || show(part, text);
}

const shown = new WeakMap();
const versions = new WeakMap(); // of the store, when a part was asked for
const WHOLE = 8; // every how many looks a part is asked for whatever its version
let looks = 0;

function show(part, text) {
  if (part.querySelector("dialog[open]")) return false; // somebody is being asked something
  shown.set(part, text);
  const focused = part.contains(document.activeElement) ? document.activeElement.id : "";
  const ticked = [...part.querySelectorAll("input:checked")].map((box) => box.id);
  const scrolled = [...part.querySelectorAll("[tabindex]")].map((box) => box.scrollTop);
  part.innerHTML = text;
  for (const id of ticked) if (document.getElementById(id)) document.getElementById(id).checked = true;
  [...part.querySelectorAll("[tabindex]")].forEach((box, place) => { box.scrollTop = scrolled[place] ?? 0; });
  part.dispatchEvent(new CustomEvent("htmx:afterSwap", { bubbles: true }));
  if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
  return true;
}

for (const part of document.querySelectorAll("[data-every]")) {
  setInterval(() => { if (!document.hidden) refresh(part); }, Number(part.dataset.every) * 1000);
  document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(part); });
}

document.addEventListener("click", (event) => {
  const opener = event.target.closest("[data-dialog]");
  if (opener) document.getElementById(opener.dataset.dialog).showModal();
});
