// The side: each control of the chain with its inputs, in order; drag or arrow keys change it.

import { get } from "./api.js";
import { $, announce, h } from "./dom.js";
import { inputFor } from "./inputs.js";
import {
  NAMES,
  active,
  catalogue,
  comparing,
  copy,
  isOn,
  presetOf,
  same,
  setValue,
  state,
  valueOf,
} from "./state.js";
import { openDialog } from "./dialog.js";

let inputs = []; // {field, set, fault} of all inputs on the page; a field may have several
let changed = () => {}; // called when a setting has changed
const opened = new Set(); // names of the controls that show more than their line

export function setUpControls(onChange) {
  changed = onChange;
  const names = Object.keys(catalogue.presets);
  $("preset").append(
    ...names.map((name) => h("option", { value: name }, name)),
    h("option", { value: "", disabled: true }, "custom"),
  );
  $("preset").addEventListener("change", () => {
    active().order = copy(catalogue.presets[$("preset").value]);
    build();
    changed();
  });
  $("all-off").addEventListener("click", () => {
    active().body = {};
    sync();
    changed();
  });
  for (const [name, about] of Object.entries(catalogue.controls)) {
    const further = about.fields.length > about.switches.length;
    if (further && isOn(name) && !about.replaces) opened.add(name);
  }
  build();
}

// ---- building

/** Build the side anew: for another order, preset or setting. What had the focus keeps it. */
export function build() {
  const focus = document.activeElement?.closest?.("[data-key]")?.dataset.key;
  inputs = [];
  const order = active().order;
  const inChain = new Set(order.map(([name]) => name));
  const outside = Object.keys(catalogue.controls).filter((name) => !inChain.has(name));
  $("chain").replaceChildren(...order.map(([name], place) => item(name, place)));
  $("outside").hidden = !outside.length;
  $("outside-list").replaceChildren(...outside.map(outsideItem));
  const others = catalogue.others.filter((name) => name !== "seed");
  $("request-list").replaceChildren(...others.map(otherItem));
  buildTabs();
  sync();
  if (focus) document.querySelector(`[data-key="${CSS.escape(focus)}"]`)?.focus();
}

function buildTabs() {
  $("tabs").hidden = !comparing();
  $("tabs").replaceChildren(
    ...(comparing() ? NAMES : []).map((name, i) =>
      h(
        "button",
        {
          type: "button",
          className: `tab tab-${name.toLowerCase()}`,
          "data-key": `tab ${name}`,
          "aria-pressed": String(state.active === i),
          onclick: () => {
            state.active = i;
            build();
            changed();
          },
        },
        name,
      ),
    ),
  );
}

function item(name, place) {
  const about = catalogue.controls[name];
  // A record has too many lines to be always shown.
  const [first, ...others] = about.switches.filter((x) => catalogue.fields[x].kind !== "record");
  const grip = h(
    "button",
    {
      type: "button",
      className: "grip",
      "data-key": `grip ${name}`,
      "aria-label": `Move ${name}, ${place + 1} of ${active().order.length}`,
      title: "drag, or arrow keys",
      onkeydown: (event) => moveByKey(event, name),
      onpointerdown: (event) => startDrag(event, name),
    },
    "⠿",
  );
  const more = h("div", { className: "more", id: `more-${name}`, hidden: !opened.has(name) });
  const title = h(
    "button",
    {
      type: "button",
      className: "name",
      "data-key": `name ${name}`,
      "aria-expanded": String(opened.has(name)),
      "aria-controls": more.id,
      title: about.description,
    },
    h("span", { className: "name-text" }, name),
  );
  const isSimple = first && ["number", "integer", "switch"].includes(catalogue.fields[first].kind);
  const line = h(
    "div",
    { className: "line" },
    grip,
    title,
    first
      ? input(first, name)
      : h("span", { className: "no-input" }, setElsewhere(about)),
  );
  const further = about.fields.filter((field) => field !== first && !others.includes(field));
  more.append(
    h(
      "p",
      { className: "description" },
      ...inline(about.description),
      " ",
      docsButton(name, about),
    ),
    ...further.map((field) => fieldLine(field, name)),
    ...Object.entries(about.options).map(([option, [off, choices]]) =>
      optionLine(name, option, off, choices),
    ),
    h(
      "button",
      { type: "button", className: "plain", onclick: () => remove(name) },
      "Remove from the chain",
    ),
  );
  const element = h(
    "li",
    { className: isSimple ? "control" : "control wide", "data-name": name },
    line,
    ...others.map((field) => fieldLine(field, name)),
    more,
  );
  title.addEventListener("click", () => {
    const open = !opened.has(name);
    if (open) opened.add(name);
    else opened.delete(name);
    more.hidden = !open;
    title.setAttribute("aria-expanded", String(open));
  });
  return element;
}

const setElsewhere = ({ own, switches }) =>
  own ? "a function" : switches.length ? "" : "set by an engine";

function docsButton(name, about) {
  if (about.own) return null;
  return h(
    "button",
    {
      type: "button",
      className: "link",
      "aria-label": `docs of ${name}`,
      onclick: () => docs(name),
    },
    "docs",
  );
}

async function docs(name) {
  const text = await (await get(`docs/${name}`)).text();
  openDialog(name, h("div", { className: "prose" }, ...prose(text)));
}

/** Code, strong text and the texts of links in a line of Markdown. */
function inline(line) {
  return line.split(/(`[^`]+`|\*\*[^*]+\*\*)/).map((part) => {
    if (part.startsWith("`")) return h("code", {}, part.slice(1, -1));
    if (part.startsWith("**")) return h("strong", {}, part.slice(2, -2));
    return part.replace(/\[([^\]]+)\]\([^)]*\)/g, "$1");
  });
}

/** Markdown, as far as the page of the controls uses it: paragraphs, lists, tables, code. */
function prose(text) {
  return text.split(/\n{2,}/).flatMap((block) => {
    if (block.startsWith("|")) {
      const rows = block.split("\n").filter((row) => !/^\|[\s|:-]+\|$/.test(row));
      const cells = (row) => row.slice(1, -1).split("|");
      return h(
        "table",
        {},
        ...rows.map((row, i) =>
          h("tr", {}, ...cells(row).map((x) => h(i ? "td" : "th", {}, ...inline(x.trim())))),
        ),
      );
    }
    const [head, ...items] = block.split(/^- /m);
    return [
      head.trim() && h("p", {}, ...inline(head.trim().replaceAll("\n", " "))),
      items.length &&
        h(
          "ul",
          {},
          ...items.map((x) => h("li", {}, ...inline(x.trim().replace(/\s*\n\s*/g, " ")))),
        ),
    ].filter(Boolean);
  });
}

function fieldLine(field, control) {
  const { meaning, range, kind } = catalogue.fields[field];
  const isList = !["number", "integer", "switch"].includes(kind);
  return h(
    "div",
    { className: isList ? "sub wide" : "sub" },
    h("span", { className: "sub-name", title: [meaning, range].filter(Boolean).join("; ") }, field),
    input(field, control),
  );
}

/** An input of a field; several controls may have one of the same field. */
function input(field, control) {
  const made = inputFor(field, catalogue.fields[field], (value, how) => {
    setValue(field, value);
    sync(field, made, how);
    changed();
  });
  made.element
    .querySelectorAll("input")
    .forEach((x, i) => (x.dataset.key = `${control} ${field} ${i}`));
  inputs.push(Object.assign(made, { field }));
  return made.element;
}

function optionLine(name, option, off, choices) {
  const options = () => active().order.find(([x]) => x === name)[1];
  const set = (value) => {
    if (value === null || same(value, off)) delete options()[option];
    else options()[option] = value;
    syncPreset();
    changed();
  };
  const value = options()[option] ?? off;
  const label = `option ${option} of ${name}`;
  let element;
  if (choices) {
    element = h(
      "select",
      { "aria-label": label },
      ...choices.map((x) => h("option", { value: x, selected: x === value }, x)),
    );
    element.addEventListener("change", () => set(element.value));
  } else {
    // a number, or with a list as its default token ids
    const many = Array.isArray(off);
    element = h("input", {
      type: many ? "text" : "number",
      "aria-label": label,
      placeholder: many ? "token ids" : "none",
      value: (many ? value.join(", ") : value) ?? "",
    });
    element.addEventListener("change", () => {
      const numbers = (element.value.match(/\d+/g) ?? []).map(Number);
      set(many ? numbers : (numbers[0] ?? null));
    });
  }
  return h(
    "div",
    { className: "sub option" },
    h("span", { className: "sub-name" }, option, h("i", {}, "of the chain")),
    element,
  );
}

function outsideItem(name) {
  const add = () => {
    const order = Object.keys(catalogue.controls);
    const place = active().order.findLastIndex(([x]) => order.indexOf(x) < order.indexOf(name));
    active().order.splice(place + 1, 0, [name, {}]);
    announce(`${name} is ${place + 2} of ${active().order.length}`);
    build();
    document.querySelector(`[data-key="grip ${name}"]`)?.focus();
    changed();
  };
  return h(
    "li",
    { className: "control outside", "data-name": name },
    h(
      "div",
      { className: "line" },
      h(
        "button",
        { type: "button", className: "grip", "aria-label": `Add ${name}`, onclick: add },
        "+",
      ),
      h("span", { className: "name", title: catalogue.controls[name].description }, name),
    ),
  );
}

function otherItem(field) {
  const { kind, meaning } = catalogue.fields[field];
  const isList = !["number", "integer", "switch"].includes(kind);
  return h(
    "li",
    { className: isList ? "control wide" : "control", "data-name": field },
    h(
      "div",
      { className: "line" },
      h("span", { className: "grip" }),
      h("span", { className: "name", title: meaning }, field),
      input(field, ""),
    ),
  );
}

// ---- values and errors

/** Show the values of the active setting; `source` is the input that has just been used. */
export function sync(field, source, how) {
  for (const one of inputs) {
    if (field && one.field !== field) continue;
    one.set(valueOf(one.field), one === source ? how : undefined);
  }
  for (const element of document.querySelectorAll("#chain > .control")) {
    const { name } = element.dataset;
    element.classList.toggle("on", isOn(name));
    const differs = comparing() && !sameInBoth(name);
    element.classList.toggle("differs", differs);
  }
  syncPreset();
}

function sameInBoth(name) {
  const [a, b] = state.settings;
  return catalogue.controls[name].fields.every((x) => same(valueOf(x, a), valueOf(x, b)));
}

function syncPreset() {
  $("preset").value = presetOf(active().order);
}

/** Show the library's messages, each at its field. */
export function showErrors(errors) {
  const shown = new Set(inputs.map((one) => one.field));
  for (const one of inputs) one.fault(errors[one.field]);
  const others = Object.entries(errors).filter(([field]) => !shown.has(field));
  $("general-error").hidden = !others.length;
  $("general-error").textContent = others.map(([, message]) => message).join(" ");
}

// ---- order

function moveTo(name, place) {
  const { order } = active();
  const from = order.findIndex(([x]) => x === name);
  const to = Math.max(0, Math.min(place, order.length - 1));
  if (to === from) return false;
  order.splice(to, 0, ...order.splice(from, 1));
  return true;
}

function moveByKey(event, name) {
  const by = { ArrowUp: -1, ArrowDown: 1 }[event.key];
  if (!by) return;
  event.preventDefault();
  const place = active().order.findIndex(([x]) => x === name) + by;
  if (!moveTo(name, place)) return;
  announce(`${name} is ${place + 1} of ${active().order.length}`);
  build();
  changed();
}

function remove(name) {
  active().order = active().order.filter(([x]) => x !== name);
  announce(`${name} is not in the chain any more`);
  build();
  $("preset").focus();
  changed();
}

function startDrag(event, name) {
  if (event.button !== 0) return;
  const list = $("chain");
  const dragged = event.currentTarget.closest("li");
  const before = copy(active().order);
  dragged.classList.add("dragged");

  const move = ({ clientY }) => {
    const others = [...list.children].filter((x) => x !== dragged);
    const next = others.find((x) => {
      const box = x.getBoundingClientRect();
      return clientY < box.top + box.height / 2;
    });
    if (next !== dragged.nextElementSibling) list.insertBefore(dragged, next ?? null);
    const pane = $("side-body").getBoundingClientRect();
    if (clientY < pane.top + 24) $("side-body").scrollBy(0, -12);
    if (clientY > pane.bottom - 24) $("side-body").scrollBy(0, 12);
  };
  const end = (finished) => {
    removeEventListener("pointermove", move);
    removeEventListener("pointerup", end);
    removeEventListener("pointercancel", end);
    if (finished.type === "pointerup") moveTo(name, [...list.children].indexOf(dragged));
    build();
    if (!same(before, active().order)) changed();
  };
  // Not by pointer capture: an element loses it when it moves in the document.
  addEventListener("pointermove", move);
  addEventListener("pointerup", end);
  addEventListener("pointercancel", end);
}
