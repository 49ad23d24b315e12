// Bringing files: dropped or chosen, whole or in parts, with progress.

const app = document.querySelector('script[src*="/app.js?"]').src; // the page's own instance
const { api, problemOf, tell } = await import(app);

const drop = document.getElementById("drop");
const form = document.getElementById("upload");
const bar = document.getElementById("sending-bar");
const line = document.getElementById("sending-text");
const problem = document.getElementById("upload-problem");
const texts = drop?.dataset ?? {};
const TRIES = 3;
let request = null;
let stopped = false;

class Refused extends Error {}

/** Sends a form and tells how many bytes have gone; the answer's object, or an error with the server's sentence. */
function send(path, data, progress) {
  return new Promise((resolve, reject) => {
    request = new XMLHttpRequest();
    request.open("POST", `/ui/api${path}`);
    request.setRequestHeader("X-CSRF-Token", document.body.dataset.csrf);
    request.responseType = "json";
    request.upload.onprogress = (event) => progress(event.loaded);
    request.onload = () => {
      if (request.status < 400) return resolve(request.response);
      if (request.status === 401) location.assign("/ui/sign-in?next=/ui/files");
      return reject(new Refused(request.response?.error?.message ?? `HTTP ${request.status}`));
    };
    request.onerror = () => reject(new Error(texts.lost));
    request.onabort = () => reject(new Refused(texts.stopped));
    request.send(data);
  });
}

function show(file, sent) {
  const share = Math.min(1, sent / Math.max(1, file.size));
  bar.value = share;
  line.textContent = (share < 1 ? texts.sending : texts.storing)
    .replace("{name}", file.name).replace("{percent}", Math.floor(share * 100));
}

async function whole(file, purpose) {
  const data = new FormData();
  data.set("purpose", purpose);
  data.set("file", file, file.name);
  return send("/v1/files", data, (sent) => show(file, sent));
}

async function call(path, body) {
  const answer = await api(path, {
    method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body),
  });
  if (!answer.ok) throw new Refused(await problemOf(answer));
  return answer.json();
}

/** One part, sent again where the connection was lost. */
async function part(upload, blob, progress) {
  for (let turn = 1; ; turn += 1) {
    try {
      const data = new FormData();
      data.set("data", blob, "part");
      return await send(`/v1/uploads/${upload}/parts`, data, progress);
    } catch (error) {
      if (error instanceof Refused || turn === TRIES) throw error;
      await new Promise((resolve) => { setTimeout(resolve, 1000 * turn); });
    }
  }
}

async function inParts(file, purpose) {
  const step = Number(texts.part);
  const upload = await call("/v1/uploads", {
    filename: file.name, purpose, bytes: file.size, mime_type: "application/octet-stream",
  });
  try {
    const ids = [];
    for (let start = 0; start < file.size; start += step) {
      if (stopped) throw new Refused(texts.stopped);
      const made = await part(upload.id, file.slice(start, start + step), (sent) => show(file, start + Math.min(sent, step)));
      ids.push(made.id);
    }
    show(file, file.size);
    return (await call(`/v1/uploads/${upload.id}/complete`, { part_ids: ids })).file;
  } catch (error) {
    await api(`/v1/uploads/${upload.id}/cancel`, { method: "POST" });
    throw error;
  }
}

async function bring(files) {
  const purpose = document.getElementById("purpose").value;
  const button = form.querySelector("button");
  problem.hidden = true;
  stopped = false;
  button.disabled = true;
  document.getElementById("sending").hidden = false;
  try {
    let last = null;
    for (const file of files) {
      if (!file.size) throw new Refused(texts.empty.replace("{name}", file.name));
      show(file, 0);
      last = file.size > Number(texts.whole) ? await inParts(file, purpose) : await whole(file, purpose);
    }
    location.assign(files.length === 1 ? `/ui/files/${last.id}` : "/ui/files");
  } catch (error) {
    tell(problem, error.message);
    problem.hidden = false;
    document.getElementById("sending").hidden = true;
    button.disabled = false;
  }
}

if (drop) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    bring([...document.getElementById("file").files]);
  });
  document.getElementById("stop").addEventListener("click", () => {
    stopped = true;
    request?.abort();
  });
  for (const name of ["dragenter", "dragover"]) {
    document.addEventListener(name, (event) => { event.preventDefault(); drop.classList.add("over"); });
  }
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) drop.classList.remove("over"); });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    const files = [...event.dataTransfer.files];
    if (files.length && !form.querySelector("button").disabled) bring(files);
  });
}
