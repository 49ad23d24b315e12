// Charts of curves by step, in the page's colours. A curve is a list of [step, value].

const DASHES = [[], [8, 4], [2, 4], [12, 3, 2, 3], [4, 4]]; // colour is not the only sign
const HEIGHT = 240;
const charts = new Set();

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** Each value with those before it, the farther the less; steps may be far apart. */
function smoothed(points) {
  const reach = Math.max(1, (points.at(-1)[0] - points[0][0]) / 25);
  let mean = points[0][1];
  let before = points[0][0];
  return points.map(([step, value]) => {
    mean += (value - mean) * (1 - Math.exp(-Math.max(1e-9, step - before) / reach));
    before = step;
    return [step, mean];
  });
}

/** A chart in `place` of some lines: [{label, points}], drawn again by `draw`. */
export class Chart {
  constructor(place, { percent = false } = {}) {
    this.place = place;
    this.percent = percent;
    this.lines = [];
    this.smooth = false;
    charts.add(this);
    new ResizeObserver(() => this.plot?.setSize({ width: place.clientWidth, height: HEIGHT })).observe(place);
  }

  draw(lines = this.lines, smooth = this.smooth) {
    const kept = lines.filter((line) => line.points.length);
    const same = this.plot && kept.length === this.lines.length && kept.every((line, n) => line.label === this.lines[n].label);
    this.lines = kept;
    this.smooth = smooth;
    this.place.nextElementSibling.hidden = kept.length > 0;
    if (!kept.length) return;
    const curves = kept.map(({ points, sparse }) => (smooth && !sparse && points.length > 2 ? smoothed(points) : points));
    const data = uPlot.join(curves.map((points) => [points.map((one) => one[0]), points.map((one) => one[1])]));
    if (same && this.drawnSmooth === smooth) return void this.plot.setData(data);
    this.drawnSmooth = smooth;
    this.plot?.destroy();
    this.plot = new uPlot(this.options(kept), data, this.place);
  }

  options(lines) {
    const axis = { stroke: colour("--quiet"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line"), width: 1 } };
    const spelled = (value) => (value == null ? "–" : this.percent ? `${(value * 100).toFixed(1)} %` : value.toPrecision(4));
    const last = (place) => this.lines[place]?.points.at(-1) ?? [null, null]; // where nothing is pointed at
    const all = lines.map((line) => ({
      label: line.label,
      stroke: colour(`--line-${line.place}`),
      width: line.points.length > 250 && !this.smooth ? 1 : 2, // many points are a band: what lies over it stays visible
      dash: DASHES[line.place - 1],
      spanGaps: true,
      points: { show: line.points.length < 2 || line.sparse === true, size: 6 },
      value: (_plot, value, series, at) => spelled(at == null ? last(series - 1)[1] : value),
    }));
    return {
      width: this.place.clientWidth,
      height: HEIGHT,
      scales: { x: { time: false } },
      axes: [axis, { ...axis, size: 60, values: (_plot, ticks) => ticks.map((one) => (this.percent ? `${+(one * 100).toFixed(1)} %` : `${+one.toPrecision(4)}`)) }],
      series: [{ label: this.place.dataset.step, value: (_plot, value, _series, at) => (at == null ? Math.max(...this.lines.map((_, place) => last(place)[0])) : value)?.toLocaleString() ?? "–" }, ...all],
    };
  }
}

/** The switch that smooths all charts of the page; it is remembered. */
export function smoothSwitch(box) {
  box.checked = localStorage.getItem("tunesmith-smooth") === "1";
  const set = () => {
    localStorage.setItem("tunesmith-smooth", box.checked ? "1" : "0");
    for (const chart of charts) chart.draw(chart.lines, box.checked);
  };
  box.addEventListener("change", set);
  set();
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const chart of charts) {
    chart.plot?.destroy();
    chart.plot = undefined;
    chart.draw();
  }
});
