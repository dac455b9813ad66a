// The next token: a row for each likely token, a column for each control that is on.
//
// A moved slider changes numbers, seldom the table's form. So cells are described first, and of the
// table on the page only what differs is changed.

import { $, h, integer, percent, significant, tokenLabel, tokenText } from "./dom.js";
import { NAMES, comparing, divergence, state } from "./state.js";

let answer = null; // the last answer of the server
let parts = null; // the table on the page

export function setUpTable() {
  parts = { head: h("thead"), body: h("tbody"), foot: h("tfoot") };
  parts.table = h(
    "table",
    { className: "stages", role: "grid" },
    h("caption", { className: "visually-hidden" }, "Probabilities in per cent after each control"),
    parts.head,
    parts.body,
    parts.foot,
  );
  $("table").append(parts.table);
  $("table").addEventListener("click", (event) => {
    const row = event.target.closest("tr[data-token]");
    if (row) select(row);
  });
  $("table").addEventListener("keydown", (event) => {
    const row = event.target.closest("tr[data-token]");
    if (!row) return;
    const rows = [...parts.body.rows];
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
  for (const other of parts.body.rows) other.tabIndex = -1;
  row.tabIndex = 0;
  row.focus();
  row.scrollIntoView({ block: "nearest" });
}

function select(row) {
  state.selected = Number(row.dataset.token);
  showTable(answer);
  focusRow(row);
}

// ---- cells as plain objects, and the cells on the page

/** Make the rows of a part of the table what is described: [{className, token, cells}]. */
function patchRows(part, rows) {
  while (part.rows.length > rows.length) part.deleteRow(-1);
  while (part.rows.length < rows.length) part.append(h("tr"));
  rows.forEach(({ className = "", token, cells }, i) => {
    const row = part.rows[i];
    if (row.className !== className) row.className = className;
    if (token !== undefined) {
      row.dataset.token = token;
      row.setAttribute("aria-selected", String(token === state.selected));
    }
    while (row.cells.length > cells.length) row.lastChild.remove();
    cells.forEach((cell, j) => {
      let element = row.cells[j];
      if (!element || element.localName !== (cell.tag ?? "td")) {
        const made = h(cell.tag ?? "td");
        if (element) element.replaceWith(made);
        else row.append(made);
        element = made;
      }
      patchCell(element, cell);
    });
  });
}

/**
 * Make a cell what is described: its class, attributes, share of the bar, and its content, a text
 * or {key, nodes}, where `nodes()` is called if the key is another than before.
 */
function patchCell(element, cell) {
  const before = element.described ?? {};
  const { className = "", title = "", label = "", share = "", scope = "", span = 1 } = cell;
  if (before.className !== className) element.className = className;
  if (before.title !== title) element.title = title;
  if (before.scope !== scope && scope) element.scope = scope;
  if (before.span !== span) element.colSpan = span;
  if (before.share !== share) element.style.setProperty("--share", share);
  if (before.label !== label) {
    if (label) element.setAttribute("aria-label", label);
    else element.removeAttribute("aria-label");
  }
  const key = cell.key ?? cell.text ?? "";
  if (before.key !== key) {
    if (cell.nodes) element.replaceChildren(...cell.nodes());
    else element.textContent = cell.text ?? "";
  }
  element.described = { className, title, label, share, scope, span, key };
}

// ---- the table

/** Show the answer of the server for one setting or two. */
export function showTable(next) {
  const good = next.results.filter((result) => !result.errors);
  $("table").classList.toggle("stale", good.length < next.results.length);
  if (!good.length) return;
  answer = next;
  const { tokens } = answer;
  // Where both go on from the same text, the model's column is the same: once is enough.
  const isShared = comparing() && good.length > 1 && divergence() >= state.at;
  const results = answer.results.map((result, i) =>
    i && isShared ? withoutModel(result) : result,
  );
  const probs = good.flatMap((result) => result.tokens.flatMap((token) => token.probs));
  const most = Math.max(...probs.map((p) => p ?? 0));
  const columns = results.reduce((sum, r) => sum + (r.errors ? 1 : r.stages.length + 1), 0);
  const focused = document.activeElement?.closest?.("tr[data-token]")?.dataset.token;

  parts.table.classList.toggle("compared", comparing());
  parts.table.style.setProperty("--columns", columns);
  patchRows(parts.head, [...groups(results), { cells: heads(results) }]);
  patchRows(
    parts.body,
    tokens.map((token, i) => tokenRow(token, i, results, most)),
  );
  patchRows(parts.foot, [{ cells: others(results) }]);

  const rows = [...parts.body.rows];
  const byToken = (id) => rows.find((row) => row.dataset.token === String(id));
  const tabbed = byToken(focused) ?? byToken(state.selected) ?? rows[0];
  for (const row of rows) row.tabIndex = row === tabbed ? 0 : -1;
  if (focused !== undefined && tabbed !== document.activeElement) {
    tabbed.focus({ preventScroll: true });
  }
  showFate();
}

function withoutModel(result) {
  const tokens = result.tokens.map((token) => ({ ...token, probs: token.probs.slice(1) }));
  return { ...result, stages: result.stages.slice(1), isShort: true, tokens };
}

/** The line with A and B over their columns. */
function groups(results) {
  if (results.length < 2) return [];
  const group = (result, i) => ({
    tag: "th",
    className: `group first name-${NAMES[i].toLowerCase()}`,
    scope: "colgroup",
    span: result.errors ? 1 : result.stages.length + 1,
    text: NAMES[i] + (result.errors ? " has an error" : ""),
  });
  return [
    {
      className: "groups",
      cells: [{ tag: "th", className: "token-cell" }, ...results.map(group)],
    },
  ];
}

function heads(results) {
  const corner = { tag: "th", className: "token-cell", scope: "col", text: "token" };
  const all = results.flatMap((result) =>
    result.errors
      ? [{ tag: "th", className: "first" }]
      : [
          ...result.stages.map((stage, s) => stageHead(stage, s, result.isShort)),
          drawHead(result),
        ],
  );
  return [corner, ...all];
}

const ARRIVAL =
  "When the token arrives in the race that is the draw. The first wins. Mean: 1 / probability";

function drawHead({ watermarked, kept }) {
  const by = watermarked ? ". The watermark’s key and the tokens before decide it" : "";
  const lines = ["draw", watermarked ? "keyed arrival" : "arrival", "first wins"];
  const mass = kept.mass < 0.99995 ? `${percent(kept.mass)} % kept` : "";
  return head("draw-head", [...lines, mass], ARRIVAL + by);
}

function stageHead(stage, s, isShort) {
  const isModel = s === 0 && !isShort;
  const lines = [
    isModel ? "model" : stage.name,
    isModel ? "logits" : stage.setting,
    `${integer(stage.kept)} left`,
    stage.removed ? `−${percent(stage.removed_mass)} %` : "",
  ];
  const removed = stage.removed ? `, ${integer(stage.removed)} tokens removed` : "";
  const title = `${lines[0]} ${lines[1]}${removed}, entropy ${stage.entropy.toFixed(2)} nats`;
  return head(s ? "" : "first", lines, title);
}

function head(className, lines, title) {
  const classes = ["stage-name", "stage-setting", "stage-kept", "stage-gone"];
  return {
    tag: "th",
    scope: "col",
    className: `stage-head ${className}`,
    title,
    key: lines.join("\n"),
    nodes: () =>
      lines.map((line, i) => h("span", { className: classes[i] }, ...breakable(line || "\u00a0"))),
  };
}

/** A name may break after an underscore. */
const breakable = (name) =>
  name.split(/(?<=_)/).flatMap((part, i) => (i ? [h("wbr"), part] : [part]));

function tokenRow(token, i, results, most) {
  const about = results.map((result) => (result.errors ? null : result.tokens[i]));
  const isLeft = (x) => x !== null && !x.probs.includes(null);
  const isDrawn = (result) => result.token === token.id;
  const differs =
    about.length > 1 &&
    about.every(Boolean) &&
    (isLeft(about[0]) !== isLeft(about[1]) || isDrawn(results[0]) !== isDrawn(results[1]));
  const hits = results.flatMap((result, r) => (isDrawn(result) ? [hit(r)] : []));
  const classes = {
    gone: !about.some(isLeft),
    drawn: results.some(isDrawn),
    differs,
    selected: token.id === state.selected,
  };
  const label = {
    tag: "th",
    scope: "row",
    className: `token-cell${hits.length === 1 ? hits[0] : hits.length ? hit(0) : ""}`,
    title: `${tokenText(token)} (token ${token.id})`,
    key: `${token.id} ${differs}`,
    nodes: () => [
      h("span", { className: "token-line" }, tokenLabel(token), differs ? mark() : null),
    ],
  };
  return {
    className: Object.keys(classes)
      .filter((name) => classes[name])
      .join(" "),
    token: token.id,
    cells: [
      label,
      ...results.flatMap((result, r) =>
        result.errors ? [{ className: "first" }] : cells(result, r, about[r], most),
      ),
    ],
  };
}

const mark = () =>
  h("abbr", { className: "mark", title: "A and B differ here", "aria-label": "differs" }, "≠");

/** The class of the cells of the token that is drawn. */
const hit = (r) => ` hit hit-${NAMES[r].toLowerCase()}`;

function cells(result, r, about, most) {
  const end = about.probs.indexOf(null);
  const isDrawn = result.token === about.token;
  const stages = result.stages.map((stage, s) => {
    const first = s ? "" : " first";
    if (end >= 0 && s > end) return { className: `after${first}` };
    if (s === end) {
      const title = `removed by ${stage.name}`;
      return { className: `removed${first}`, title, label: title, text: `✕ ${stage.name}` };
    }
    const p = about.probs[s];
    const share = `${most ? ((100 * p) / most).toFixed(1) : 0}%`;
    return { className: `prob${first}${isDrawn ? hit(r) : ""}`, share, text: percent(p) };
  });
  if (about.arrival === null) return [...stages, { className: "draw" }];
  const arrival = significant(about.arrival);
  if (!isDrawn) return [...stages, { className: "draw", text: arrival }];
  const className = `draw is-drawn drawn-${NAMES[r].toLowerCase()}${hit(r)}`;
  return [...stages, { className, text: `${arrival} ●`, label: `${arrival}, drawn` }];
}

/** What the tokens that are not listed have together. */
function others(results) {
  const label = { tag: "th", scope: "row", className: "token-cell", text: "all others" };
  const all = results.flatMap((result) => {
    if (result.errors) return [{ className: "first" }];
    const stages = result.stages.map((stage, s) => {
      const listed = result.tokens.filter((token) => token.probs[s] !== null);
      const rest = 1 - listed.reduce((sum, token) => sum + token.probs[s], 0);
      const count = stage.kept - listed.length;
      return {
        className: s ? "" : "first",
        title: `${integer(count)} tokens`,
        text: count > 0 ? percent(Math.max(0, rest)) : "–",
      };
    });
    return [...stages, { className: "draw" }];
  });
  return [label, ...all];
}

// ---- the fate of a token

/** Tell in words what became of the selected token, or else of the one that is drawn. */
function showFate() {
  const drawn = answer.results.find((result) => !result.errors)?.token;
  const isListed = answer.tokens.some((token) => token.id === state.selected);
  const id = isListed ? state.selected : drawn;
  const place = answer.tokens.findIndex((token) => token.id === id);
  if (place < 0) {
    $("fate").replaceChildren(
      ...answer.results.map((x) => h("p", {}, x.errors ? "" : `No token: ${x.status}.`)),
    );
    return;
  }
  const token = answer.tokens[place];
  const stories = answer.results.map((result, r) => {
    if (result.errors) return null;
    const name = answer.results.length > 1 ? NAMES[r] : "";
    return h(
      "p",
      {},
      name && h("b", { className: `name-${name.toLowerCase()}` }, `${name} `),
      ...story(result, result.tokens[place]),
    );
  });
  $("fate").replaceChildren(
    h("h2", {}, tokenLabel(token), h("span", { className: "id" }, `token ${token.id}`)),
    ...stories.filter(Boolean),
  );
}

function story(result, about) {
  const end = about.probs.indexOf(null);
  const path = about.probs.slice(0, end < 0 ? undefined : end).map((p, s) => {
    const where = s ? `after ${result.stages[s].name}` : "before the chain";
    return `${percent(p)} % ${where}`;
  });
  if (end > 0) path.push(`removed by ${result.stages[end].name}`);
  const winner = answer.tokens.find((token) => token.id === result.token);
  const others =
    about.token === result.token ? "before all others" : `after “${tokenText(winner)}”`;
  const race =
    about.arrival === null
      ? ""
      : ` In the draw it arrives at ${significant(about.arrival)}, ${others}.`;
  return [h("strong", {}, `${about.fate}: `), `${path.join(" → ")}.${race}`];
}
