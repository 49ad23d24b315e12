// A job's page while it trains: the stream of what is new, the charts, and the parts that have grown old.

import { Chart, smoothSwitch } from "./charts.js";
import { refresh } from "./live.js";

const live = document.getElementById("live");
const line = live.querySelector("[data-connection]");
const SILENCE_SECONDS = 40; // the server gives a sign of life every 15 s
const WAITS = [1, 1, 2, 3, 5, 5, 10]; // seconds before the next try

const curves = new Map(); // name -> [[step, value], …]
const charts = [...live.querySelectorAll("[data-chart]")].map((place) => {
  const chart = new Chart(place, { percent: place.dataset.chart === "accuracy" });
  const lines = [1, 2, 3].map((n) => {
    const text = place.getAttribute(`data-line-${n}`);
    const name = text.slice(0, text.indexOf(":"));
    return { name, label: text.slice(name.length + 1), place: n, sparse: n > 1 };
  });
  return { chart, lines };
});

function draw() {
  for (const { chart, lines } of charts) {
    chart.draw(lines.map((one) => ({ ...one, points: curves.get(one.name) ?? [] })));
  }
}

function take(data) {
  for (const [name, [since, points]] of Object.entries(data.curves)) {
    curves.set(name, [...(curves.get(name) ?? []).filter(([step]) => step < since), ...points]);
  }
  if (Object.keys(data.curves).length) draw();
  for (const [name, text] of Object.entries(data.shown)) {
    const place = live.querySelector(`[data-shown="${name}"]`);
    if (place && place.textContent !== text) place.textContent = text;
  }
  if (data.share !== null) live.querySelector("[data-share]").value = data.share;
  for (const [name, mark] of Object.entries(data.marks)) renew(document.getElementById(name), mark);
}

async function renew(part, mark) {
  if (part.dataset.mark === mark || part.dataset.asked === mark) return;
  part.dataset.asked = mark;
  if (await refresh(part)) part.dataset.mark = mark;
  else delete part.dataset.asked;
}

let source;
let seen = "";
let tries = 0;
let heard = Date.now();
let over = false;
let timer;

function connect() {
  clearTimeout(timer);
  source?.close();
  heard = Date.now();
  source = new EventSource(`${live.dataset.live}${seen ? `?after=${seen}` : ""}`);
  source.addEventListener("message", (event) => {
    heard = Date.now();
    seen = event.lastEventId;
    if (tries) say(live.dataset.back, 6);
    tries = 0;
    take(JSON.parse(event.data));
  });
  source.addEventListener("alive", () => { heard = Date.now(); });
  source.addEventListener("ended", () => stop());
  source.addEventListener("replaced", () => stop(live.dataset.replaced));
  source.addEventListener("signed-out", () => location.reload());
  source.addEventListener("error", lost);
}

function lost() {
  source.close();
  if (over || document.hidden) return;
  if (tries > 0) say(live.dataset.lost);
  if (tries === 3) signedIn();
  timer = setTimeout(connect, WAITS[Math.min(tries, WAITS.length - 1)] * 1000);
  tries += 1;
}

/** Where the server answers but the session has ended, the page leads to the sign-in page. */
function signedIn() {
  refresh(document.getElementById("head"));
}

function stop(why = "") {
  over = true;
  source.close();
  if (why) say(why);
  refresh(document.getElementById("table"));
}

function say(text, seconds = 0) {
  line.textContent = text;
  line.hidden = false;
  if (seconds) setTimeout(() => { if (line.textContent === text) line.hidden = true; }, seconds * 1000);
}

// A browser opens six connections to a server at most: a page that nobody sees gives its own back.
document.addEventListener("visibilitychange", () => {
  if (over) return;
  clearTimeout(timer);
  if (document.hidden) source?.close();
  else connect();
});
setInterval(() => { if (!over && !document.hidden && Date.now() - heard > SILENCE_SECONDS * 1000) lost(); }, 5000);
live.querySelector("details").addEventListener("toggle", () => refresh(document.getElementById("table")));
smoothSwitch(document.getElementById("smooth"));
if (!document.hidden) connect();
