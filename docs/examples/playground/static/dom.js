// Elements without a framework, and text that may hold anything.

/** An element: properties (`onclick`, `className`), `data-` and `aria-` attributes, children. */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name in element && !name.startsWith("aria-")) element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export const $ = (id) => document.getElementById(id);

const NAMED = { "\n": "↵", "\r": "␍", "\t": "⇥" };

// Characters that draw nothing, or that move what is around them: controls, spaces other than the
// plain one, zero width, bidi.
const UNSEEN =
  /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Co}\p{Cs}\u034f\u115f\u1160\u3164\ufe00-\ufe0f]|(?! )\p{Zs}/gu;

/** Text on one line in which every character can be seen. */
export function visible(text) {
  const shown = text.replace(UNSEEN, (c) => {
    const code = c.codePointAt(0);
    if (NAMED[c]) return NAMED[c];
    if (code < 32) return String.fromCodePoint(0x2400 + code);
    return `‹${code.toString(16).toUpperCase().padStart(4, "0")}›`;
  });
  return shown.replace(/^ +| +$/g, (spaces) => "·".repeat(spaces.length)) || "‹empty›";
}

/** A token, as a table or a chip shows it. */
export function tokenText(token) {
  if (!token) return "…";
  if (token.bytes) return `‹${token.text}›`;
  return token.special ? token.text : visible(token.text);
}

export function tokenLabel(token) {
  const kind = token.special ? " special" : token.bytes ? " bytes" : "";
  return h("bdi", { className: `token${kind}` }, tokenText(token));
}

/** A probability in per cent, with two digits after the point. */
export function percent(p) {
  if (p > 0 && p < 0.00005) return "<0.01";
  return (100 * p).toFixed(2);
}

export const integer = (n) => n.toLocaleString("en-US");

export function significant(x) {
  if (x >= 1000) return x.toExponential(1).replace("e+", "e");
  return x.toPrecision(3);
}

/** After the browser has painted what has been changed. */
export const painted = () =>
  new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve, 0)));

export function announce(text) {
  $("announce").textContent = text;
}
