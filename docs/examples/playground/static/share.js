// A setting as a request body, as Python and as an address; and a body taken over.

import { tokensOf } from "./api.js";
import { $, h } from "./dom.js";
import { openDialog } from "./dialog.js";
import { NAMES, active, catalogue, comparing, fragment, presetOf, state } from "./state.js";

/** The body that asks a server for what the page shows. */
export function requestBody(setting = active()) {
  return {
    model: state.model,
    messages: [{ role: "user", content: state.prompt }],
    seed: state.seed,
    ...setting.body,
  };
}

/** A value as Python writes it. */
function python(value) {
  if (Array.isArray(value)) return `[${value.map(python).join(", ")}]`;
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (typeof value === "object") {
    const pairs = Object.entries(value).map(([key, x]) => `${python(key)}: ${python(x)}`);
    return `{${pairs.join(", ")}}`;
  }
  return JSON.stringify(value);
}

function chainInPython({ order }) {
  const preset = presetOf(order);
  if (preset === "default") return "chain = lc.Chain()";
  if (preset) return `chain = lc.Chain.preset("${preset}")`;
  const step = ([name, options]) =>
    Object.keys(options).length ? `("${name}", ${python(options)})` : `"${name}"`;
  return `chain = lc.Chain([\n${order.map((x) => `    ${step(x)},\n`).join("")}])`;
}

function copyable(label, text, rows) {
  const area = h("textarea", { rows, spellcheck: false, "aria-label": label, value: text });
  const button = h("button", { type: "button" }, "Copy");
  button.addEventListener("click", async () => {
    area.select();
    try {
      await navigator.clipboard.writeText(area.value);
    } catch {
      document.execCommand("copy");
    }
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), 1500);
  });
  const element = h(
    "section",
    { className: "copyable" },
    h("div", { className: "copyable-head" }, h("h3", {}, label), button),
    area,
  );
  return { element, area };
}

/** Fields of a body that are not sampling's, or that the page has an input of its own for. */
const NOT_OF_A_SETTING = [
  ...["model", "messages", "seed", "stream", "n"],
  ...["logprobs", "top_logprobs", "logprob_token_ids", "logprobs_of"],
];

async function takeOver(text) {
  const body = JSON.parse(text);
  if (typeof body !== "object" || body === null || Array.isArray(body)) {
    throw new Error("The body must be a JSON object.");
  }
  const question = (body.messages ?? []).filter((message) => message.role === "user").at(-1);
  if (typeof question?.content === "string") state.prompt = question.content;
  const seed = [body.seed].flat()[0];
  if (Number.isSafeInteger(seed)) state.seed = seed;
  const rest = Object.entries(body).filter(
    ([name, value]) => !NOT_OF_A_SETTING.includes(name) && value !== null,
  );
  for (const entry of rest) {
    const [name, value] = entry; // a server may take a text where the library takes tokens
    if (typeof value === "string" && catalogue.fields[name]?.kind === "tokens") {
      entry[1] = (await tokensOf(value)).map((token) => token.id);
    }
  }
  active().body = Object.fromEntries(rest);
}

export function setUpShare(onTaken) {
  $("share").addEventListener("click", () => {
    const body = JSON.stringify(requestBody(), null, 2);
    const request = copyable("Request body", body, Math.min(16, body.split("\n").length + 1));
    request.area.id = "share-body";
    const code = `${chainInPython(active())}\nparams = lc.Params.from_request(body)`;
    const inPython = copyable(
      "The chain, in Python",
      code,
      Math.min(10, code.split("\n").length + 1),
    );
    const url = location.href.split("#")[0] + fragment();
    const address = copyable("Address of this page", url, 2);
    address.area.id = "share-address";
    const error = h("p", { className: "error", role: "alert", hidden: true });
    const apply = h("button", { type: "button", id: "share-apply" }, "Use this body");
    apply.addEventListener("click", async () => {
      try {
        await takeOver(request.area.value);
      } catch (fault) {
        error.hidden = false;
        error.textContent = fault.message;
        return;
      }
      $("dialog").close();
      onTaken();
    });
    request.element.append(
      h("p", { className: "note" }, "Edit it, or paste another one; unknown fields are named."),
      error,
      apply,
    );
    const which = comparing() ? ` ${NAMES[state.active]}` : "";
    openDialog(`Share setting${which}`, request.element, inPython.element, address.element);
  });
}
