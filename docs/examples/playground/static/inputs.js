// An input for each kind of field. All have the same form:
//   {element, set(value), fault(message)}; `changed(value)` is called when the user changes it.

import { known, know, remember, tokensOf } from "./api.js";
import { h, tokenLabel, visible } from "./dom.js";
import { nearest, stops } from "./scale.js";

export function inputFor(name, field, changed) {
  const make = { number: slider, integer: slider, switch: toggle, record }[field.kind] ?? list;
  return make(name, field, changed);
}

let serial = 0;

/** A place for the library's message about the field. */
function faultLine(inputs) {
  const line = h("p", { className: "error", id: `fault-${serial++}`, role: "alert", hidden: true });
  const fault = (message) => {
    line.hidden = !message;
    line.textContent = message ?? "";
    for (const input of inputs) {
      if (message) input.setAttribute("aria-invalid", "true");
      else input.removeAttribute("aria-invalid");
      if (message) input.setAttribute("aria-describedby", line.id);
      else input.removeAttribute("aria-describedby");
    }
  };
  return { line, fault };
}

function offButton(name, changed) {
  return h(
    "button",
    {
      type: "button",
      className: "off-button",
      "aria-label": `${name} off`,
      title: `back to its off value`,
      onclick: () => changed(null),
    },
    "×",
  );
}

function slider(name, field, changed) {
  const values = "low" in field ? stops(field) : [];
  const range = h("input", {
    type: "range",
    min: 0,
    max: Math.max(values.length - 1, 0),
    step: 1,
    tabIndex: 0,
    "aria-label": `${name}, slider`,
  });
  const number = h("input", {
    type: "number",
    step: "any",
    className: "number",
    "aria-label": name,
    title: `${name} in ${field.range}`,
    placeholder: "off",
  });
  range.addEventListener("input", () => changed(values[Number(range.value)], "drag"));
  number.addEventListener("input", () => {
    if (number.value !== "") changed(Number(number.value), "typed");
    else if (!number.validity.badInput) changed(null, "typed");
  });
  range.hidden = values.length < 2;
  const reset = offButton(name, changed);
  const { line, fault } = faultLine([number]);
  return {
    element: h(
      "div",
      { className: "field number-field", "data-field": name },
      range,
      number,
      reset,
      line,
    ),
    fault,
    set(value, how) {
      if (values.length && how !== "drag") range.value = nearest(values, value);
      range.setAttribute("aria-valuetext", value === null ? "off" : String(value));
      const share = values.length > 1 ? Number(range.value) / (values.length - 1) : 0;
      range.style.setProperty("--at", `${100 * share}%`);
      if (how !== "typed") number.value = value === null ? "" : String(value);
      reset.disabled = value === field.off;
    },
  };
}

function toggle(name, field, changed) {
  const box = h("input", { type: "checkbox", role: "switch", "aria-label": name });
  box.addEventListener("change", () => changed(box.checked));
  const { line, fault } = faultLine([box]);
  return {
    element: h("div", { className: "field switch-field", "data-field": name }, box, line),
    fault,
    set: (value) => (box.checked = value),
  };
}

/** Several values by their names. Those at their defaults are left out; without any it is off. */
function record(name, field, changed) {
  let value = {};
  const inputs = Object.entries(field.properties).map(([key, about]) => {
    const label = `${name} ${key}`;
    const isFlag = [about.type].flat().includes("boolean");
    const input = about.enum
      ? h("select", { "aria-label": label }, ...about.enum.map((x) => h("option", { value: x }, x)))
      : h("input", {
          type: isFlag ? "checkbox" : "number",
          role: isFlag ? "switch" : undefined,
          step: "any",
          placeholder: about.default ?? "",
          "aria-label": label,
        });
    const read = () => (isFlag ? input.checked : about.enum ? input.value : Number(input.value));
    input.addEventListener(about.enum || isFlag ? "change" : "input", () => {
      if (input.validity.badInput) return;
      const { [key]: before, ...rest } = value;
      const isOff = input.value === "" || read() === about.default;
      value = isOff ? rest : { ...value, [key]: read() };
      changed(Object.keys(value).length ? value : null, "typed");
    });
    const show = () => {
      const shown = value[key] ?? about.default;
      if (isFlag) input.checked = shown;
      else input.value = about.enum ? shown : (value[key] ?? "");
    };
    return { key, input, show, title: about.description };
  });
  const { line, fault } = faultLine(inputs.map(({ input }) => input));
  return {
    element: h(
      "div",
      { className: "field record-field", "data-field": name },
      ...inputs.map(({ key, input, title }) =>
        h("label", { title: title ?? "" }, h("span", {}, key), input),
      ),
      line,
    ),
    fault,
    set(next, how) {
      value = next ?? {};
      if (how !== "typed") inputs.forEach(({ show }) => show());
    },
  };
}

const HINTS = {
  tokens: "text or token ids, Enter",
  phrases: "a phrase, Enter",
  texts: "a phrase, Enter",
  biases: "text, Enter",
};

/** Ids if it is only numbers, otherwise the tokens of the text; "12" in quotes is a text. */
async function readTokens(text) {
  if (/^\s*\d+([\s,]+\d+)*\s*$/.test(text)) {
    const ids = text
      .split(/[\s,]+/)
      .filter(Boolean)
      .map(Number);
    await know(ids);
    return ids;
  }
  const tokens = await tokensOf(text.replace(/^"(.*)"$/s, "$1"));
  return tokens.map((token) => token.id);
}

function list(name, field, changed) {
  const input = h("input", {
    type: "text",
    className: "adder",
    "aria-label": `add to ${name}`,
    placeholder: HINTS[field.kind],
    spellcheck: false,
    autocomplete: "off",
  });
  const chips = h("ul", { className: "chips", "aria-label": name });
  const { line, fault } = faultLine([input]);
  let value = field.off;

  async function add() {
    const text = input.value;
    if (!text) return;
    try {
      if (field.kind === "texts") change([...value, text]);
      else {
        const ids = await readTokens(text);
        if (field.kind === "tokens") change([...value, ...ids]); // they may be a sequence
        if (field.kind === "phrases" && ids.length) change([...value, ids]);
        if (field.kind === "biases") {
          change({ ...value, ...Object.fromEntries(ids.map((id) => [id, value[id] ?? 1])) });
        }
      }
      input.value = "";
    } catch (error) {
      fault(error.message);
    }
  }

  const change = (next) => changed(Object.keys(next).length ? next : null);
  input.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    add();
  });

  function chip(label, text, remove, ...more) {
    const button = h(
      "button",
      { type: "button", "aria-label": `remove ${text} from ${name}`, onclick: remove },
      "×",
    );
    return h("li", {}, ...label, ...more, button);
  }

  function entries() {
    const text = (id) => known.get(id)?.text ?? String(id);
    const label = (id) => (known.has(id) ? tokenLabel(known.get(id)) : String(id));
    if (field.kind === "biases") {
      return Object.entries(value).map(([id, number]) => {
        const bias = h("input", {
          type: "number",
          step: "any",
          className: "bias",
          value: number,
          "aria-label": `bias of ${text(Number(id))}`,
        });
        bias.addEventListener("input", () => {
          if (bias.value !== "") changed({ ...value, [id]: Number(bias.value) }, "typed");
        });
        const { [id]: gone, ...rest } = value;
        return chip([label(Number(id))], text(Number(id)), () => change(rest), bias);
      });
    }
    return value.map((entry, i) => {
      const remove = () => change(value.filter((_, j) => j !== i));
      if (field.kind === "texts") return chip([h("bdi", {}, visible(entry))], entry, remove);
      const ids = [entry].flat();
      return chip(ids.map(label), ids.map(text).join(""), remove);
    });
  }

  return {
    element: h("div", { className: "field list-field", "data-field": name }, input, chips, line),
    fault,
    async set(next, how) {
      value = typeof next === "number" ? [next] : (next ?? field.off);
      if (how === "typed") return;
      chips.replaceChildren(...entries());
      const ids = field.kind === "biases" ? Object.keys(value) : [value].flat(2);
      const missing = ids.map(Number).filter((id) => Number.isInteger(id) && !known.has(id));
      if (field.kind === "texts" || !missing.length) return;
      await know(missing).catch(() => remember([])); // an id outside the vocabulary stays a number
      chips.replaceChildren(...entries());
    },
  };
}
