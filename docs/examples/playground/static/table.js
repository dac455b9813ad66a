// The next token: a row for each likely token, a column for each control that is on.

import { $, h, integer, painted, percent, significant, tokenLabel, tokenText } from "./dom.js";
import { NAMES, comparing, state } from "./state.js";

let answer = null; // what the server said last
let selectRow = () => {};

export function setUpTable(onSelect) {
  selectRow = onSelect;
  $("table").addEventListener("click", (event) => {
    const row = event.target.closest("tr[data-token]");
    if (row) select(row);
  });
  $("table").addEventListener("keydown", (event) => {
    const row = event.target.closest("tr[data-token]");
    if (!row) return;
    const rows = [...row.parentElement.querySelectorAll("tr[data-token]")];
    const place = rows.indexOf(row);
    const next = { ArrowDown: place + 1, ArrowUp: place - 1, Home: 0, End: rows.length - 1 };
    if (event.key in next) {
      event.preventDefault();
      focusRow(rows[Math.max(0, Math.min(next[event.key], rows.length - 1))]);
    } else if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      select(row);
    }
  });
}

function focusRow(row) {
  for (const other of $("table").querySelectorAll("tr[data-token]")) other.tabIndex = -1;
  row.tabIndex = 0;
  row.focus();
  row.scrollIntoView({ block: "nearest" });
}

function select(row) {
  state.selected = Number(row.dataset.token);
  for (const other of $("table").querySelectorAll("tr[data-token]")) {
    other.classList.toggle("selected", other === row);
    other.setAttribute("aria-selected", String(other === row));
  }
  focusRow(row);
  showFate();
  selectRow();
}

// ---- the table

/** Show what the server said of one setting or two. */
export function showTable(next) {
  const good = next.results.filter((result) => !result.errors);
  $("table").classList.toggle("stale", good.length < next.results.length);
  if (!good.length) return;
  answer = next;
  const results = answer.results;
  const most = Math.max(...good.flatMap((r) => r.tokens.flatMap((t) => t.probs.map((p) => p ?? 0))));
  const focused = document.activeElement?.closest?.("tr[data-token]")?.dataset.token;
  const rows = answer.tokens.map((token, i) => tokenRow(token, i, results, most));
  const scroll = [$("table").scrollLeft, $("table").scrollTop];
  $("table").replaceChildren(
    h(
      "table",
      { className: comparing() ? "stages compared" : "stages", role: "grid" },
      h("caption", { className: "visually-hidden" }, "Probabilities in per cent after each control"),
      h("thead", {}, groups(results), heads(results)),
      h("tbody", {}, ...rows),
      h("tfoot", {}, othersRow(results)),
    ),
  );
  $("table").scrollTo(...scroll);
  const byToken = (id) => rows.find((row) => row.dataset.token === String(id));
  const tabbed = byToken(focused) ?? byToken(state.selected) ?? rows[0];
  if (tabbed) tabbed.tabIndex = 0;
  if (focused && byToken(focused)) byToken(focused).focus({ preventScroll: true });
  showFate();
}

/** The line with A and B over their columns. */
function groups(results) {
  if (results.length < 2) return null;
  return h(
    "tr",
    { className: "groups" },
    h("th", { className: "token-cell" }),
    ...results.map((result, i) =>
      h(
        "th",
        {
          className: `group group-${NAMES[i].toLowerCase()}`,
          colSpan: result.errors ? 1 : result.stages.length + 1,
          scope: "colgroup",
        },
        NAMES[i],
        result.errors ? " has an error" : "",
      ),
    ),
  );
}

function heads(results) {
  return h(
    "tr",
    {},
    h("th", { className: "token-cell", scope: "col" }, "token"),
    ...results.flatMap((result, i) => {
      if (result.errors) return [h("th", { className: "first" })];
      return [...result.stages.map(stageHead), drawHead(i)];
    }),
  );
}

function stageHead(stage, s) {
  const gone = stage.removed ? `−${percent(stage.removed_mass)} %` : "";
  return h(
    "th",
    { scope: "col", className: s ? "stage-head" : "stage-head first" },
    h("span", { className: "stage-name", title: stage.name }, s ? stage.name : "model"),
    h("span", { className: "stage-setting", title: stage.setting }, stage.setting || "logits"),
    h(
      "span",
      { className: "stage-kept", title: `entropy ${stage.entropy.toFixed(2)} nats` },
      `${integer(stage.kept)} left`,
    ),
    h(
      "span",
      { className: "stage-gone", title: `${integer(stage.removed)} tokens removed` },
      gone || "\u00a0",
    ),
  );
}

function drawHead() {
  return h(
    "th",
    {
      scope: "col",
      className: "stage-head draw-head",
      title: "When the token arrives in the race; the first is drawn. Mean: 1 / probability",
    },
    h("span", { className: "stage-name" }, "draw"),
    h("span", { className: "stage-setting" }, "arrival"),
    h("span", { className: "stage-kept" }, "first wins"),
    h("span", { className: "stage-gone" }, "\u00a0"),
  );
}

function tokenRow(token, i, results, most) {
  const about = results.map((result) => (result.errors ? null : result.tokens[i]));
  const isLeft = (x) => x && x.probs.at(-1) !== null && x.probs.at(-1) !== undefined;
  const isDrawn = (r) => results[r].token === token.id;
  const differs =
    about.length > 1 &&
    about.every(Boolean) &&
    (isLeft(about[0]) !== isLeft(about[1]) || isDrawn(0) !== isDrawn(1));
  const classes = [
    about.some(isLeft) ? "" : "gone",
    results.some((_, r) => isDrawn(r)) ? "drawn" : "",
    differs ? "differs" : "",
    token.id === state.selected ? "selected" : "",
  ];
  return h(
    "tr",
    {
      className: classes.filter(Boolean).join(" "),
      tabIndex: -1,
      "data-token": token.id,
      "aria-selected": String(token.id === state.selected),
    },
    h(
      "th",
      { scope: "row", className: "token-cell", title: `token ${token.id}` },
      h("span", { className: "token-line" }, tokenLabel(token), differs ? mark() : ""),
    ),
    ...results.flatMap((result, r) =>
      result.errors ? [h("td", { className: "first" })] : cells(result, r, about[r], most),
    ),
  );
}

const mark = () =>
  h("abbr", { className: "mark", title: "A and B differ here", "aria-label": "differs" }, "≠");

function cells(result, r, about, most) {
  const end = about.probs.indexOf(null);
  const name = NAMES[r].toLowerCase();
  const stages = result.stages.map((stage, s) => {
    const first = s ? "" : " first";
    if (end >= 0 && s > end) return h("td", { className: `after${first}` });
    if (s === end) {
      return h(
        "td",
        { className: `removed${first}`, title: `removed by ${stage.name}` },
        h("span", { "aria-label": `removed by ${stage.name}` }, `✕ ${stage.name}`),
      );
    }
    const p = about.probs[s];
    const cell = h("td", { className: `prob${first}` }, h("span", {}, percent(p)));
    cell.style.setProperty("--share", `${most ? (100 * p) / most : 0}%`);
    return cell;
  });
  const isDrawn = result.token === about.token;
  const arrival =
    about.arrival === null
      ? ""
      : isDrawn
        ? h("strong", {}, `${significant(about.arrival)} ●`)
        : significant(about.arrival);
  const label = isDrawn ? `${significant(about.arrival)}, drawn` : undefined;
  return [
    ...stages,
    h(
      "td",
      { className: `draw${isDrawn ? ` is-drawn drawn-${name}` : ""}`, "aria-label": label },
      arrival,
    ),
  ];
}

/** What the tokens that are not listed have together. */
function othersRow(results) {
  return h(
    "tr",
    {},
    h("th", { scope: "row", className: "token-cell" }, "all others"),
    ...results.flatMap((result) => {
      if (result.errors) return [h("td", { className: "first" })];
      return [
        ...result.stages.map((stage, s) => {
          const listed = result.tokens.reduce((sum, t) => sum + (t.probs[s] ?? 0), 0);
          const count = stage.kept - result.tokens.filter((t) => t.probs[s] !== null).length;
          return h(
            "td",
            { className: s ? "" : "first", title: `${integer(count)} tokens` },
            count > 0 ? percent(Math.max(0, 1 - listed)) : "–",
          );
        }),
        h("td", { className: "draw" }),
      ];
    }),
  );
}

// ---- the fate of a token

/** Tell in words what became of the selected token, or else of the one that is drawn. */
export function showFate() {
  if (!answer) return;
  const drawn = answer.results.find((result) => !result.errors)?.token;
  const id = answer.tokens.some((token) => token.id === state.selected) ? state.selected : drawn;
  const place = answer.tokens.findIndex((token) => token.id === id);
  if (place < 0) {
    $("fate").replaceChildren(
      ...answer.results.map((x) => h("p", {}, x.errors ? "" : `No token: ${x.status}.`)),
    );
    return;
  }
  const token = answer.tokens[place];
  $("fate").replaceChildren(
    h(
      "h2",
      {},
      tokenLabel(token),
      h("span", { className: "id" }, `token ${token.id}`),
    ),
    ...answer.results.map((result, r) =>
      result.errors
        ? null
        : h(
            "p",
            { className: "story" },
            answer.results.length > 1
              ? h("b", { className: `name-${NAMES[r].toLowerCase()}` }, `${NAMES[r]} `)
              : "",
            ...story(result, result.tokens[place]),
          ),
    ),
  );
}

function story(result, about) {
  const end = about.probs.indexOf(null);
  const shown = end < 0 ? about.probs : about.probs.slice(0, end);
  const steps = shown.map((p, s) => {
    const name = s ? `after ${result.stages[s].name}` : "before the chain";
    return `${percent(p)} % ${name}`;
  });
  const path = [...steps, end < 0 ? null : `removed by ${result.stages[end]?.name}`];
  const winner = answer.tokens.find((token) => token.id === result.token);
  const race =
    about.arrival === null
      ? ""
      : about.token === result.token
        ? ` It arrives at ${significant(about.arrival)}, before all others.`
        : ` It arrives at ${significant(about.arrival)}, after “${tokenText(winner)}”.`;
  return [h("strong", {}, `${about.fate}: `), `${path.filter(Boolean).join(" → ")}.${race}`];
}

export { painted };
