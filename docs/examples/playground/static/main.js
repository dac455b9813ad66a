// The page: what the user does changes the state, and the state is explained and shown.

import { get, known, post, remember } from "./api.js";
import { build, setUpControls, showErrors, sync } from "./controls.js";
import { openDialog } from "./dialog.js";
import { $, announce, h, integer, painted, percent, tokenText, visible } from "./dom.js";
import { setUpShare } from "./share.js";
import { NAMES, begin, catalogue, comparing, restore, save, setCompare, state } from "./state.js";
import { setUpTable, showTable } from "./table.js";
import { isFull, put, setUpText, showText } from "./text.js";

let answer = null; // of the server, to the state as it was
let wanted = 0; // the state has changed so often
let shown = 0; // ... and this much of it is shown
let running = null; // the loop that brings it up to date
let changedAt = 0; // when the first change was made that is not shown yet
let writing = false;

// ---- explaining

/** The state has changed: explain and show it. One request at a time, of the newest state. */
function refresh() {
  if (shown === wanted) changedAt = performance.now();
  wanted++;
  save();
  running ??= bringUpToDate().finally(() => (running = null));
  return running;
}

async function bringUpToDate() {
  while (shown !== wanted) {
    const turn = wanted;
    const since = changedAt;
    const patience = setTimeout(
      () => ($("status").textContent = "the model reads the text …"),
      700,
    );
    try {
      answer = await post("explain", question());
      $("status").classList.remove("failed");
      remember(answer.tokens);
      show(answer);
      if (turn !== wanted) changedAt = performance.now();
      await painted();
      report(since);
    } catch (error) {
      answer = null;
      $("status").classList.add("failed");
      $("status").textContent = error.message;
    } finally {
      clearTimeout(patience);
    }
    shown = turn;
  }
}

function question() {
  return {
    prompt: state.prompt,
    settings: state.settings.map(({ order, body }, i) => ({
      order,
      body: { ...body, seed: state.seed },
      output: state.outputs[i].slice(0, state.at),
    })),
    tokens: ofInterest(),
  };
}

/** Tokens that the table has besides the likeliest: of the text, the selected one, and named ones. */
function ofInterest() {
  const named = state.settings.flatMap(({ body }) =>
    Object.entries(body).flatMap(([field, value]) => {
      const { kind } = catalogue.fields[field] ?? {};
      if (kind === "biases") return Object.keys(value).map(Number);
      return kind === "tokens" || kind === "phrases" ? value.flat() : [];
    }),
  );
  const ids = [...state.outputs.map((output) => output[state.at]), state.selected, ...named];
  return [...new Set(ids.filter((id) => known.has(id)))].slice(0, 60);
}

function show(answer) {
  showTable(answer);
  const errors = answer.results[state.active].errors ?? {};
  showErrors(errors);
  $("seed").setAttribute("aria-invalid", String("seed" in errors));
  $("status").replaceChildren(...answer.results.flatMap(statusOf));
}

/** A line about each text: where it stands, how it goes on, why it has ended. */
function statusOf(result, i) {
  const name = comparing() ? `${NAMES[i]}: ` : "";
  const say = (...parts) => [h("span", { className: "says" }, name, ...parts)];
  if (result.errors) return say("this setting has an error");
  if (result.token < 0) return say(`no token, ${result.status}`);
  const drawn = answerToken(result.token);
  const next = state.outputs[i][state.at];
  const where = `position ${result.position}`;
  if (next !== undefined && next !== result.token) {
    return say(`${where}: draws `, drawn, "; the text has ", answerToken(next));
  }
  const ignored = result.ignored.length ? `; not in this chain: ${result.ignored.join(", ")}` : "";
  const { tokens, mass, entropy } = result.kept;
  const marked = result.watermarked ? "; the watermark’s key decides" : "";
  const kept =
    ` of ${integer(tokens)} kept (${percent(mass)} % of the model’s probability, ` +
    `entropy ${entropy.toFixed(2)} nats)`;
  return say(`${where}: draws `, drawn, kept, ignored, marked, ...ending(result, i));
}

/** Why a text has ended, and by what. */
function ending({ finish, stop_reason: reason }, i) {
  if (!finish) return [];
  if (finish === "repetition") return ["; the text has ended: it repeats itself"];
  if (finish === "length") {
    const { max_tokens: most } = state.settings[i].body;
    const name = state.at >= (most ?? Infinity) ? "max_tokens" : "max_total_tokens";
    return [`; ${name} is reached`];
  }
  const ids = [reason].flat();
  const by =
    typeof reason === "string"
      ? [h("bdi", { className: "token" }, visible(reason))]
      : ids.map((id) => h("bdi", { className: "token" }, tokenText(known.get(id))));
  return ["; the text has ended by ", ...by];
}

function answerToken(id) {
  const token = answer.tokens.find((x) => x.id === id);
  return h("bdi", { className: "token" }, tokenText(token ?? { text: String(id) }));
}

function report(since) {
  const total = performance.now() - since;
  const { chain, model } = answer.milliseconds;
  const [all, ofModel, ofChain] = [total, model, chain].map((x) => x.toFixed(0));
  $("latency").textContent = `${all} ms: model ${ofModel}, chain ${ofChain}`;
  Object.assign(document.body.dataset, {
    latency: total.toFixed(1),
    chain: chain.toFixed(1),
    model: model.toFixed(1),
    turns: Number(document.body.dataset.turns ?? 0) + 1,
  });
}

// ---- writing

/** Draw a token for each text and append it; whether one was drawn. */
async function step() {
  await (running ?? answer ?? refresh());
  if (!answer || isFull()) return false;
  let drew = false;
  answer.results.forEach((result, i) => {
    const ended = result.errors || result.token < 0 || result.finish;
    if (ended || state.outputs[i].length < state.at) return;
    put(i, result.token);
    drew = true;
  });
  if (drew) {
    state.at++;
    state.selected = null;
    await Promise.all([refresh(), showText()]);
  }
  return drew;
}

async function writeOn() {
  if (writing) {
    writing = false;
    return;
  }
  writing = true;
  $("write").textContent = "Stop";
  const count = Math.max(1, Math.min(Number($("count").value) || 1, 200));
  for (let i = 0; i < count && writing; i++) if (!(await step())) break;
  writing = false;
  $("write").textContent = "Write on";
  announce(`${state.at} tokens`);
}

async function goTo(place, focus = false) {
  writing = false;
  state.at = place;
  state.selected = null;
  await Promise.all([refresh(), showText(focus)]);
}

function restart() {
  state.outputs = state.outputs.map(() => []);
  goTo(0);
}

// ---- the rest of the page

function showAll() {
  $("prompt").value = state.prompt;
  fit();
  $("seed").value = state.seed;
  $("compare").setAttribute("aria-pressed", String(comparing()));
  document.body.classList.toggle("comparing", comparing());
  build();
  return Promise.all([refresh(), showText()]);
}

/** The prompt is as high as its text, up to four lines. */
function fit() {
  $("prompt").style.height = "auto";
  $("prompt").style.height = `${Math.min($("prompt").scrollHeight, 92)}px`;
}

const KEYS = {
  s: ["Step", step],
  w: ["Write on, or stop", writeOn],
  u: ["Undo: back by one token", () => state.at && goTo(state.at - 1)],
  r: ["Restart", restart],
  c: ["Compare A and B", () => $("compare").click()],
};

function help() {
  const rows = [
    ...Object.entries(KEYS).map(([key, [what]]) => [key, what]),
    ["↑ ↓ on a grip", "move a control in the chain"],
    ["← → on a slider", "the next value"],
    ["↑ ↓ Enter in the table", "another token; its fate"],
    ["← → in the text", "another position: why was this token drawn?"],
  ];
  openDialog(
    "Help",
    h(
      "p",
      {},
      "The columns are the controls that are on, in the order of the chain. A cell has a token's ",
      "probability after this control, or the control that removed it. In the last column the ",
      "tokens that are left race: each arrives at a random time, the likelier the earlier, and the ",
      "first is drawn. The seed and the position decide all of it, or a watermark’s key and the ",
      "tokens before it.",
    ),
    h(
      "dl",
      { className: "keys" },
      ...rows.flatMap(([key, what]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, what)]),
    ),
    h("p", { className: "note" }, "Letters work outside of input fields."),
  );
}

function setUp() {
  $("step").addEventListener("click", step);
  $("write").addEventListener("click", writeOn);
  $("back").addEventListener("click", () => goTo(Math.max(0, state.at - 1)));
  $("restart").addEventListener("click", restart);
  $("help").addEventListener("click", help);
  $("compare").addEventListener("click", () => {
    setCompare(!comparing());
    showAll();
  });
  $("prompt").addEventListener("input", fit);
  $("prompt").addEventListener("change", () => {
    state.prompt = $("prompt").value;
    restart();
  });
  $("seed").addEventListener("input", () => {
    const seed = Number($("seed").value);
    if ($("seed").value === "" || !Number.isSafeInteger(seed)) return;
    state.seed = seed;
    refresh();
  });
  $("new-seed").addEventListener("click", () => {
    state.seed = Math.floor(Math.random() * 2 ** 32);
    $("seed").value = state.seed;
    refresh();
  });
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, textarea, select, dialog");
    if (typing || event.ctrlKey || event.metaKey || event.altKey || !KEYS[event.key]) return;
    event.preventDefault();
    KEYS[event.key][1]();
  });
  addEventListener("hashchange", () => {
    restore(location.hash);
    showAll();
  });
}

const about = await (await get("catalogue")).json();
begin(about);
state.model = about.model;
$("about").textContent = `${about.model}, logitchain ${about.version}`;
setUpControls(refresh);
setUpTable();
setUpText(goTo);
setUpShare(showAll);
setUp();
await showAll();
document.body.dataset.ready = "";
