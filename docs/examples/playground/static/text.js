// The text so far, token by token, and the buttons that write it.

import { know, known } from "./api.js";
import { $, h, tokenText } from "./dom.js";
import { NAMES, catalogue, comparing, divergence, state } from "./state.js";

let goTo = () => {};

export function setUpText(onGoTo) {
  goTo = onGoTo;
  $("answers").addEventListener("click", (event) => {
    const token = event.target.closest("[data-place]");
    if (token) goTo(Number(token.dataset.place));
  });
  $("answers").addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === " ") event.target.click();
    const by = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
    const token = event.target.closest("[data-place]");
    if (!by || !token) return;
    event.preventDefault();
    const length = Math.max(...state.outputs.map((output) => output.length));
    goTo(Math.max(0, Math.min(Number(token.dataset.place) + by, length)), true);
  });
}

/** Show the texts. The token at the position is marked: its draw is what the table explains. */
export async function showText(focus = false) {
  await know(state.outputs.flat());
  const held = focus || $("answers").contains(document.activeElement);
  const differ = comparing() ? divergence() : Infinity;
  $("answers").replaceChildren(
    ...state.outputs.map((output, i) =>
      h(
        "div",
        {
          className: "answer",
          role: "group",
          "aria-label": comparing() ? `Text of ${NAMES[i]}` : "Answer",
        },
        comparing() ? h("b", { className: `name-${NAMES[i].toLowerCase()}` }, NAMES[i]) : null,
        h("div", { className: "tokens" }, ...spans(output, differ)),
      ),
    ),
  );
  const current = $("answers").querySelector(".current");
  if (held) current?.focus({ preventScroll: true });
  for (const line of $("answers").querySelectorAll(".tokens")) {
    const mark = line.querySelector(".current");
    if (mark) line.scrollTop = Math.max(0, mark.offsetTop - line.clientHeight + 32);
  }
  $("back").disabled = state.at === 0;
  $("restart").disabled = state.at === 0 && !state.outputs.some((x) => x.length);
}

function spans(output, differ) {
  const texts = shownTexts(output);
  const at = Math.min(state.at, output.length);
  const tokens = output.map((id, i) => {
    const token = known.get(id);
    const classes = ["word"];
    if (i === at) classes.push("current");
    if (i > at) classes.push("ahead");
    if (i >= differ) classes.push("differs");
    if (token.special) classes.push("special");
    return h(
      "span",
      {
        role: "button",
        className: classes.join(" "),
        tabIndex: i === at ? 0 : -1,
        "data-place": i,
        title: `${tokenText(token)}: why this token?`,
        "aria-current": i === at ? "step" : undefined,
      },
      texts[i],
    );
  });
  const end = h(
    "span",
    {
      role: "button",
      className: at === output.length ? "word end current" : "word end",
      tabIndex: at === output.length ? 0 : -1,
      "data-place": output.length,
      "aria-label": "the next token",
      "aria-current": at === output.length ? "step" : undefined,
    },
    "\u2009",
  );
  return [...tokens, end];
}

/** The text that each token adds. A character of several tokens stands with its last. */
function shownTexts(output) {
  const decoder = new TextDecoder();
  const encoder = new TextEncoder();
  return output.map((id) => {
    const token = known.get(id);
    if (token.special) return token.text;
    const bytes = token.bytes ? new Uint8Array(token.bytes) : encoder.encode(token.text);
    const text = decoder.decode(bytes, { stream: true });
    return (
      text.replace(/\n/g, "↵\n").replace(/[\p{Cc}\p{Cf}]/gu, (c) => (c === "\n" ? c : "▯")) || "▯"
    );
  });
}

/** Put a drawn token at the position of a text. What follows stays if it is the same token. */
export function put(i, token) {
  const output = state.outputs[i];
  if (output[state.at] === token) return;
  output.splice(state.at, Infinity, token);
}

export const isFull = () => state.at >= catalogue.most_output;
