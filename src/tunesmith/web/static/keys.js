// The secret of a new key leaves with the page: no browser shows it again from its memory of pages.

function forget() {
  for (const one of document.querySelectorAll("[data-secret]")) one.remove();
}

document.addEventListener("htmx:afterRequest", (event) => {
  if (event.target.matches?.("[data-new-key]") && event.detail.successful) event.target.querySelector("#name").value = "";
});
addEventListener("pagehide", forget);
addEventListener("pageshow", (event) => { if (event.persisted) forget(); });
