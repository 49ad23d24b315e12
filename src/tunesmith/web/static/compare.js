// Curves of several jobs over one another, read again while one of them trains.

import { Chart, smoothSwitch } from "./charts.js";

const SECONDS = 3;
const place = document.getElementById("compared");
const jobs = [...document.querySelectorAll("[data-job]")].map((link, n) => ({ id: link.dataset.job, label: link.dataset.name, place: n + 1 }));

async function look(charts) {
  let active = true;
  try {
    const answer = await fetch(place.dataset.curves);
    if (answer.status === 401) location.reload();
    const found = await answer.json();
    active = found.active;
    for (const [name, chart] of charts) {
      const points = (id) => found.jobs[id]?.[name] ?? (name === "valid_loss" ? found.jobs[id]?.full_valid_loss : undefined) ?? [];
      chart.draw(jobs.map((job) => ({ ...job, points: points(job.id) })));
    }
  } catch { /* the server is away: the next look comes */ }
  if (active) setTimeout(() => look(charts), SECONDS * 1000);
}

if (place) {
  const charts = [...place.querySelectorAll("[data-curve]")].map((one) => [
    one.dataset.curve,
    new Chart(one, { percent: one.dataset.curve.includes("accuracy") }),
  ]);
  smoothSwitch(document.getElementById("smooth"));
  look(charts);
}
