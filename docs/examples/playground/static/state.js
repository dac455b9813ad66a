// What the page is about: a text, one setting or two, a position. It is kept in the address too.

/** From the server: controls, fields, presets. */
export const catalogue = {};

export const NAMES = ["A", "B"];

export const state = {
  prompt: "Tell me about whales.",
  seed: 7,
  settings: [], // {order: [[control, options]], body: the fields that are not off}
  outputs: [[]], // the ids of the tokens that each setting has written
  at: 0, // how many of them are before the token that is explained
  active: 0, // which setting the controls are of
  selected: null, // the token whose fate is told
};

const EXAMPLE = {
  temperature: 0.9,
  top_p: 0.95,
  min_p: 0.03,
  xtc_probability: 0.5,
  xtc_threshold: 0.1,
};

export function begin(about) {
  Object.assign(catalogue, about);
  const body = Object.fromEntries(
    Object.entries(EXAMPLE).filter(([name]) => name in catalogue.fields),
  );
  state.settings = [{ order: copy(catalogue.presets.default), body }];
  restore(location.hash);
}

export const copy = (value) => JSON.parse(JSON.stringify(value));
export const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);
export const comparing = () => state.settings.length > 1;
export const active = () => state.settings[state.active];

export function valueOf(field, setting = active()) {
  return field in setting.body ? setting.body[field] : catalogue.fields[field]?.off;
}

/** Set a field; its off value leaves the body. */
export function setValue(field, value) {
  if (value === null || same(value, catalogue.fields[field]?.off)) delete active().body[field];
  else active().body[field] = value;
}

/** Whether a control does anything: none of the fields that switch it is off. */
export function isOn(name, setting = active()) {
  const { switches } = catalogue.controls[name];
  const isOff = (field) => same(valueOf(field, setting), catalogue.fields[field].off);
  return switches.length > 0 && !switches.some(isOff);
}

/** The name of the preset that has an order; "" if none has. */
export function presetOf(order) {
  const found = Object.entries(catalogue.presets).find(([, other]) => same(other, order));
  return found ? found[0] : "";
}

/** The first place at which the two texts differ; their common length if they do not. */
export function divergence() {
  const [a, b] = state.outputs;
  let i = 0;
  while (i < a.length && i < (b ?? a).length && a[i] === (b ?? a)[i]) i++;
  return i;
}

export function setCompare(on) {
  if (on) {
    state.settings.push(copy(state.settings[0]));
    state.outputs.push([...state.outputs[0]]);
  } else {
    state.settings = [active()];
    state.outputs = [state.outputs[state.active]];
  }
  state.active = on ? 1 : 0;
  state.at = Math.min(state.at, Math.max(...state.outputs.map((x) => x.length)));
}

// ---- the address

function written(setting) {
  const preset = presetOf(setting.order);
  return JSON.stringify({ order: preset || setting.order, body: setting.body });
}

function read(text) {
  const { order, body } = JSON.parse(text);
  const steps = typeof order === "string" ? catalogue.presets[order] : order;
  const isStep = (x) => Array.isArray(x) && x[0] in catalogue.controls && x[1] instanceof Object;
  if (!Array.isArray(steps) || !steps.every(isStep) || !(body instanceof Object)) throw Error();
  return { order: copy(steps), body };
}

/** The fragment of the address that restores all of it. */
export function fragment() {
  const parts = new URLSearchParams({ prompt: state.prompt, seed: state.seed, at: state.at });
  state.settings.forEach((setting, i) => {
    parts.set(NAMES[i].toLowerCase(), written(setting));
    parts.set(`text_${NAMES[i].toLowerCase()}`, state.outputs[i].join("."));
  });
  return `#${parts}`;
}

let timer;

export function save() {
  clearTimeout(timer);
  timer = setTimeout(() => history.replaceState(null, "", fragment()), 200);
}

/** Take over what an address says; one that cannot be read changes nothing. */
export function restore(hash) {
  if (hash.length < 2) return;
  const parts = new URLSearchParams(hash.slice(1));
  try {
    const names = NAMES.map((name) => name.toLowerCase()).filter((name) => parts.has(name));
    if (!names.length) return;
    const ids = (name) => (parts.get(`text_${name}`) || "").split(".").filter(Boolean).map(Number);
    const settings = names.map((name) => read(parts.get(name)));
    const outputs = names.map(ids);
    const isToken = (id) => Number.isInteger(id) && id >= 0 && id < catalogue.vocab_size;
    if (!outputs.flat().every(isToken)) throw Error();
    const longest = Math.max(...outputs.map((output) => output.length));
    Object.assign(state, {
      prompt: parts.get("prompt") ?? state.prompt,
      seed: Number.isSafeInteger(Number(parts.get("seed"))) ? Number(parts.get("seed")) : 0,
      settings,
      outputs,
      at: Math.max(0, Math.min(Number(parts.get("at")) || 0, longest)),
      active: 0,
      selected: null,
    });
  } catch {
    // what was there stays
  }
}
