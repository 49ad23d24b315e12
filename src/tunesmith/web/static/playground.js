// The playground: one conversation, up to three models. What is here is kept in the tab until it is closed.

const load = (name) => import(document.querySelector(`script[src*="/${name}?"]`).src); // the page's own instance
const { api, problemOf, tell, toast } = await load("app.js");
const { streamed, tokenTexts, Refused } = await load("playground_stream.js");

const MOST = 3;
const FINISHES = { stop: "tFinishStop", length: "tCut", tool_calls: "tFinishTools", content_filter: "tFinishFilter" };
const root = document.getElementById("playground");
const texts = root.dataset;
const bases = new Set(JSON.parse(texts.bases));
const PLACE = `tunesmith-playground-${texts.who}`;
const find = (id) => document.getElementById(id);
const number = (value, digits = 0, unit = undefined) => new Intl.NumberFormat(document.documentElement.lang, {
  maximumFractionDigits: digits, ...(unit && { style: "unit", unit }),
}).format(value);
const say = (name, values = {}) => texts[name].replace(/{(\w+)}/g, (_, key) => values[key]);
const columns = [];
let numbered = 0;
let offered = ""; // the system message that stands in the conversation because a model was trained with it

// Conversation

function addTurn(role, content = "") {
  const turn = find("turn-template").content.firstElementChild.cloneNode(true);
  const [choice, area] = [turn.querySelector("select"), turn.querySelector("textarea")];
  choice.value = role;
  area.value = content;
  const name = () => area.setAttribute("aria-label", say("tMessage", { role: choice.selectedOptions[0].textContent }));
  name();
  choice.addEventListener("change", name);
  turn.querySelector("[data-remove]").addEventListener("click", () => {
    const next = turn.nextElementSibling ?? turn.previousElementSibling;
    turn.remove();
    (next?.querySelector("textarea") ?? find("add-turn")).focus();
    save();
  });
  find("turns").append(turn);
  return area;
}

const turns = () => [...find("turns").children].map((turn) => ({
  role: turn.querySelector("select").value,
  content: turn.querySelector("textarea").value,
}));

/** A tuned model answers as it was trained with the system message of its rows: where none is written, it stands there. */
async function offerSystem() {
  const place = find("turns").firstElementChild;
  const free = () => place?.isConnected && place.querySelector("select").value === "system"
    && ["", offered].includes(place.querySelector("textarea").value.trim());
  if (!free()) return hint();
  const names = columns.map((column) => column.input.value.trim()).filter((name) => name && !bases.has(name));
  let found = "";
  for (const name of names) found ||= await systemOf(name);
  if (!free()) return hint();
  offered = found.trim();
  place.querySelector("textarea").value = found;
  hint();
  save();
}

const systems = new Map();

async function systemOf(name) {
  if (!systems.has(name)) {
    const answer = await api(`/v1/models/${encodeURIComponent(name)}`);
    systems.set(name, answer.ok ? ((await answer.json()).tunesmith?.system_message ?? "") : "");
  }
  return systems.get(name);
}

/** Says where the system message comes from, while it is the offered one. */
function hint() {
  const first = turns()[0];
  find("system-hint").hidden = !offered || first?.role !== "system" || first.content.trim() !== offered;
}

// Settings

const settings = () => Object.fromEntries([...document.querySelectorAll("[data-setting]")].map((one) =>
  [one.dataset.setting, one.type === "checkbox" ? one.checked : one.value]));

function problemAt(id, message) {
  const place = find(id);
  tell(place, message);
  place.hidden = !message;
  if (message) place.closest("details")?.setAttribute("open", "");
}

/** The field's JSON; undefined where it is empty. Throws after saying what is wrong. */
function json(name, value) {
  problemAt(`${name}-problem`, "");
  if (!value.trim()) return undefined;
  try {
    return JSON.parse(value);
  } catch (error) {
    problemAt(`${name}-problem`, say("tBadJson", { error: error.message }));
    find(`set-${name}`).focus();
    throw error;
  }
}

function format(schema) {
  if (schema === undefined || typeof schema?.type !== "string") return schema;
  if (["json_schema", "json_object", "text"].includes(schema.type)) return schema; // the whole response_format
  return { type: "json_schema", json_schema: { name: "answer", strict: true, schema } };
}

/** What every model is asked, apart from its name. */
function request() {
  const given = settings();
  const body = { messages: turns().filter((turn) => turn.content.trim() || turn.role !== "system") };
  for (const name of ["temperature", "top_p", "max_tokens", "seed", "presence_penalty", "frequency_penalty"]) {
    if (given[name] !== "") body[name] = Number(given[name]);
  }
  const stop = given.stop.split("\n").filter((line) => line);
  if (stop.length) body.stop = stop;
  if (given.logprobs) Object.assign(body, { logprobs: true, top_logprobs: 5 });
  const tools = json("tools", given.tools);
  if (tools !== undefined) body.tools = tools;
  const response = format(json("response_format", given.response_format));
  if (response !== undefined) body.response_format = response;
  return body;
}

// Columns

class Column {
  constructor(kept) {
    const section = find("column-template").content.firstElementChild.cloneNode(true);
    const part = (selector) => section.querySelector(selector);
    Object.assign(this, { section, part, text: "", tokens: [], calls: [], thought: "", figures: {}, sent: null });
    this.input = part("input");
    this.input.value = kept.model;
    this.input.id = `model-${(numbered += 1)}`;
    part(".column-head label").htmlFor = this.input.id;
    this.place = numbered;
    this.name();
    part(".correcting textarea").id = `correct-${numbered}`;
    part(".correcting label").htmlFor = `correct-${numbered}`;
    this.input.addEventListener("change", () => {
      this.name();
      offerSystem();
      save();
    });
    part("[data-remove]").addEventListener("click", () => removeColumn(this));
    part("[data-go-on]").addEventListener("click", () => goOn(this));
    part("[data-correct]")?.addEventListener("click", () => this.showCorrecting());
    part("[data-keep]").addEventListener("click", () => keep(this));
    const answer = part(".answer");
    answer.addEventListener("keydown", (event) => this.step(event));
    answer.addEventListener("pointerover", (event) => event.target.dataset.token && this.look(Number(event.target.dataset.token)));
    this.restore(kept);
    find("columns").append(section);
  }

  /** What a screen reader calls the column. */
  name() {
    this.section.setAttribute("aria-label", `${this.place}: ${this.input.value}`);
    this.input.title = this.input.value;
  }

  get kept() {
    const { text, thought, calls, figures, sent } = this;
    return { model: this.input.value, text, thought, calls, figures, sent, proof: this.proof };
  }

  restore(kept) {
    if (!kept.sent) return;
    const { text, thought, calls, figures, sent, proof } = kept;
    Object.assign(this, { text, thought, calls, figures, sent });
    this.showText();
    if (proof) this.prove(proof);
    this.showFigures();
    this.part(".after").hidden = false;
  }

  begin(sent) {
    Object.assign(this, { text: "", tokens: [], calls: [], thought: "", figures: {}, sent, proof: null, looked: undefined });
    for (const one of [".proof", ".thought", ".token-detail", ".figures", ".token-table", ".after", ".correcting"]) {
      this.part(one).hidden = true;
    }
    this.part("[data-correct]")?.setAttribute("aria-expanded", "false");
    this.part(".correcting [data-kept]").textContent = "";
    this.fault("");
    this.part(".answer").replaceChildren();
    this.section.setAttribute("aria-busy", "true");
  }

  fault(message) {
    const place = this.part(".column > .problem");
    tell(place, message);
    place.hidden = !message;
  }

  async ask(body) {
    this.controller = new AbortController();
    this.begin(body.messages);
    const times = { asked: performance.now(), first: null, last: null };
    try {
      const model = this.input.value.trim();
      for await (const part of streamed(api, problemOf, { ...body, model }, this.controller.signal)) {
        if (part.kind === "head") this.head = { asked: model, adapter: part.adapter };
        else this.take(part.chunk, times);
      }
      return "tDone";
    } catch (error) {
      if (error.name === "AbortError") this.figures.finish = say("tStopped");
      else if (error.status === 404) this.fault(say("tNoSuch", { model: this.input.value.trim() }));
      else this.fault(error instanceof Refused ? error.message : say("tLost"));
      return error.name === "AbortError" ? "tStopped" : "tFailed";
    } finally {
      this.end(times);
    }
  }

  take(chunk, times) {
    if (!this.proof) this.prove({ ...this.head, model: chunk.model, fingerprint: chunk.system_fingerprint });
    if (chunk.usage) this.figures.usage = chunk.usage;
    const choice = chunk.choices[0];
    if (!choice) return;
    const { content, reasoning_content: thought, tool_calls: calls } = choice.delta;
    if (content || thought || calls) {
      times.last = performance.now();
      times.first ??= times.last;
    }
    if (content) {
      this.text += content;
      this.part(".answer").append(content);
    }
    if (thought) {
      this.thought += thought;
      this.showThought();
    }
    for (const call of calls ?? []) {
      const known = (this.calls[call.index] ??= { name: "", arguments: "" });
      known.name += call.function.name ?? "";
      known.arguments += call.function.arguments ?? "";
    }
    this.tokens.push(...(choice.logprobs?.content ?? []));
    if (choice.finish_reason) this.figures.finish = texts[FINISHES[choice.finish_reason]] ?? choice.finish_reason;
  }

  end({ asked, first, last }) {
    const { usage } = this.figures;
    this.figures.first = first === null ? null : first - asked;
    const made = usage?.completion_tokens;
    this.figures.speed = made > 1 && last > first ? ((made - 1) / (last - first)) * 1000 : null;
    this.section.removeAttribute("aria-busy");
    this.showText();
    this.showFigures();
    this.showTable();
    this.part(".after").hidden = !this.text && !this.calls.length;
  }

  prove(proof) {
    this.proof = proof;
    const { asked, adapter, fingerprint, model } = proof;
    const place = this.part(".proof");
    const wrong = bases.has(asked) && adapter !== "none";
    let sentence = say("tNoDigest", { fingerprint });
    if (adapter === "none") sentence = say("tAlone", { model, fingerprint });
    else if (adapter) sentence = say(wrong ? "tNotAlone" : "tAdapter", { model, digest: adapter.slice(0, 16), fingerprint });
    const same = columns.find((one) => one !== this && one.proof?.fingerprint === fingerprint && one.input.value !== asked);
    if (same) sentence += ` ${say("tSame", { model: same.input.value })}`;
    place.textContent = sentence;
    place.title = adapter ?? "";
    place.className = `proof small ${wrong ? "problem" : ""}`;
    place.dataset.adapter = adapter ?? "";
    place.hidden = false;
  }

  showThought() {
    const place = this.part(".thought");
    place.hidden = !this.thought;
    place.textContent = this.thought && `${say("tThought")} ${this.thought}`;
  }

  /** The text, as tokens where their probabilities came; what was called below it. */
  showText() {
    const answer = this.part(".answer");
    const pieces = tokenTexts(this.tokens);
    const whole = this.tokens.length && pieces.join("") === this.text;
    answer.replaceChildren(...(whole ? pieces.map((piece, place) => this.tokenSpan(piece, place)) : [this.text]));
    for (const call of this.calls) {
      const line = document.createElement("code");
      line.className = "call";
      line.textContent = `${call.name}(${call.arguments})`;
      answer.append(line);
    }
    this.showThought();
    const detail = this.part(".token-detail");
    detail.hidden = !whole;
    detail.textContent = whole ? say("tTokenHint") : "";
  }

  tokenSpan(piece, place) {
    const span = document.createElement("span");
    const share = Math.exp(this.tokens[place].logprob);
    span.className = `token p${[0.1, 0.3, 0.6, 0.9].filter((least) => share > least).length}`;
    span.dataset.token = place;
    span.textContent = piece;
    return span;
  }

  step(event) {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by || !this.part(".token")) return;
    event.preventDefault();
    const next = (this.looked ?? (by > 0 ? -1 : 1)) + by;
    this.look(Math.max(0, Math.min(this.tokens.length - 1, next)));
  }

  look(place) {
    this.looked = place;
    for (const one of this.section.querySelectorAll(".token.now")) one.classList.remove("now");
    this.section.querySelector(`[data-token="${place}"]`)?.classList.add("now");
    const entry = this.tokens[place];
    this.part(".token-detail").textContent = [entry, ...others(entry)].map(spelled).join("  ·  ");
  }

  showFigures() {
    const { usage, first, speed, finish } = this.figures;
    const shown = {
      tokens: usage ? `${number(usage.prompt_tokens)} → ${number(usage.completion_tokens)}` : "–",
      first: first == null ? "–" : first < 1000 ? number(first, 0, "millisecond") : number(first / 1000, 1, "second"),
      speed: speed == null ? "–" : number(speed, 1),
      finish: finish ?? "–",
    };
    for (const [name, value] of Object.entries(shown)) this.part(`[data-figure="${name}"]`).textContent = value;
    this.part(".figures").hidden = !usage && !finish;
  }

  showTable() {
    const rows = this.tokens.map((entry) => {
      const row = document.createElement("tr");
      for (const value of [quoted(entry), percent(entry), others(entry).map(spelled).join(", ")]) row.insertCell().textContent = value;
      row.cells[1].className = "number";
      return row;
    });
    this.part(".token-table tbody").replaceChildren(...rows);
    this.part(".token-table").hidden = !rows.length;
  }

  showCorrecting() {
    const place = this.part(".correcting");
    place.hidden = !place.hidden;
    this.part("[data-correct]").setAttribute("aria-expanded", String(!place.hidden));
    if (place.hidden) return;
    const area = place.querySelector("textarea");
    area.value = this.text;
    area.focus();
  }
}

const quoted = (entry) => JSON.stringify(entry.token);
const percent = (entry) => `${number(Math.exp(entry.logprob) * 100, 1)} %`;
const spelled = (entry) => `${quoted(entry)} ${percent(entry)}`;
const others = (entry) => (entry.top_logprobs ?? []).filter((other) => other.token !== entry.token);

function addColumn(kept) {
  if (columns.length >= MOST) return;
  columns.push(new Column(kept));
  showColumns();
}

function removeColumn(column) {
  column.controller?.abort();
  columns.splice(columns.indexOf(column), 1);
  column.section.remove();
  showColumns();
  (columns.at(-1)?.input ?? find("add-column")).focus();
  save();
}

/** A model that is not asked yet: the newest tuned one, else a base. */
function another() {
  const asked = new Set(columns.map((column) => column.input.value.trim()));
  const names = [...JSON.parse(texts.first), ...[...find("model-names").options].map((one) => one.value)];
  return names.find((name) => !asked.has(name)) ?? "";
}

function showColumns() {
  find("add-column").disabled = columns.length >= MOST;
  find("columns").dataset.count = columns.length;
}

// Actions

async function send() {
  problemAt("ask-problem", "");
  let body;
  try {
    body = request();
  } catch {
    return;
  }
  if (!body.messages.some((message) => message.content.trim())) return problemAt("ask-problem", say("tNoQuestion"));
  const asked = columns.filter((column) => column.input.value.trim());
  if (!asked.length) return problemAt("ask-problem", say("tNoModel"));
  running(true);
  const ends = await Promise.all(asked.map((column) => column.ask(body)));
  running(false);
  find("state").textContent = asked.map((one, place) => `${one.input.value}: ${say(ends[place])}`).join(". ");
  save();
}

function running(now) {
  find("send").disabled = now;
  find("stop").disabled = !now;
  if (now) find("state").textContent = say("tAnswering");
}

function stop() {
  for (const column of columns) column.controller?.abort();
}

function goOn(column) {
  if (turns().at(-1)?.content.trim() === "") find("turns").lastElementChild.remove();
  addTurn("assistant", column.text);
  addTurn("user").focus();
  save();
}

async function keep(column) {
  const place = column.part(".correcting [data-kept]");
  const content = column.part(".correcting textarea").value;
  const row = { messages: [...column.sent, { role: "assistant", content }] };
  try {
    const tools = json("tools", settings().tools);
    if (tools) row.tools = tools;
  } catch {
    return;
  }
  const answer = await fetch("/ui/playground/corrections", {
    method: "POST",
    headers: { "X-CSRF-Token": document.body.dataset.csrf, "HX-Request": "true", "Content-Type": "application/json" },
    body: JSON.stringify(row),
  });
  const part = new DOMParser().parseFromString(await answer.text(), "text/html").body.firstElementChild;
  if (!answer.ok) return place.replaceChildren(part ?? "");
  find("corrections").replaceWith(part);
  window.htmx.process(part);
  column.part(".correcting").hidden = true;
  column.part("[data-correct]").setAttribute("aria-expanded", "false");
  toast(say("tKept"));
}

// What stays

function save() {
  const state = { offered, turns: turns(), settings: settings(), columns: columns.map((column) => column.kept) };
  try {
    sessionStorage.setItem(PLACE, JSON.stringify(state));
  } catch {
    // it is full: the page goes on, and a reload begins with what fitted last
  }
}

function kept() {
  try {
    return JSON.parse(sessionStorage.getItem(PLACE));
  } catch {
    return null;
  }
}

function begin() {
  const state = kept();
  const wanted = JSON.parse(texts.wanted);
  if (wanted.length) history.replaceState(null, "", location.pathname);
  for (const turn of state?.turns ?? [{ role: "system", content: "" }, { role: "user", content: "" }]) addTurn(turn.role, turn.content);
  for (const [name, value] of Object.entries(state?.settings ?? {})) {
    const field = find(`set-${name}`);
    if (field?.type === "checkbox") field.checked = value;
    else if (field) field.value = value;
  }
  offered = state?.offered ?? "";
  const fresh = (wanted.length ? wanted : JSON.parse(texts.first)).map((model) => ({ model }));
  for (const column of wanted.length ? fresh : state?.columns ?? fresh) addColumn(column);
  offerSystem();
}

find("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!find("send").disabled) send();
});
find("ask").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) find("ask").requestSubmit();
});
find("ask").addEventListener("input", () => {
  hint();
  save();
});
find("stop").addEventListener("click", stop);
find("add-turn").addEventListener("click", () => {
  addTurn(turns().at(-1)?.role === "user" ? "assistant" : "user").focus();
  save();
});
find("add-column").addEventListener("click", () => {
  addColumn({ model: another() });
  columns.at(-1).input.select();
  offerSystem();
  save();
});
find("clear").addEventListener("click", () => {
  stop();
  sessionStorage.removeItem(PLACE);
  find("turns").replaceChildren();
  for (const role of ["system", "user"]) addTurn(role);
  for (const column of columns) Object.assign(column, { sent: null }) && column.begin(null);
  for (const column of columns) column.section.removeAttribute("aria-busy");
  problemAt("ask-problem", "");
  offerSystem();
});
addEventListener("pagehide", stop);
begin();
root.dataset.ready = "";
