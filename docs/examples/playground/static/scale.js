// Where the values of a field lie on its slider. The rule reads the field's range and off value
// alone: values are dense around the off value, where small changes matter most.

const STEPS = 200;
const MOST_INTEGERS = 4096; // an integer without an upper end: about what a model can read

/** Two digits after the point; two significant ones below 0.1. */
function rounded(x) {
  const digits = Math.abs(x) >= 0.1 || x === 0 ? 2 : 1 - Math.floor(Math.log10(Math.abs(x)));
  return Number(x.toFixed(digits));
}

/** The curve of a slider: t in [0, 1] to a value. */
function curve(low, high, off) {
  if (low === null) return (t) => (2 * t - 1) / (1.02 - Math.abs(2 * t - 1));
  if (high === null) {
    const unit = off !== null && off > low ? off - low : 1; // the middle of the slider
    return (t) => low + (unit * t) / (1.05 - t);
  }
  const size = high - low;
  if (off === low) return (t) => low + size * rounded(t * t);
  if (off === high) return (t) => high - size * rounded((1 - t) ** 2);
  return (t) => low + size * t;
}

function integers({ low, high, off }) {
  const top = high ?? low + MOST_INTEGERS;
  const at = (i) => low + Math.round(Math.expm1((i / STEPS) * Math.log1p(top - low)));
  return [...Array(STEPS + 1).keys()].map(at).concat(off ?? []);
}

function numbers({ low, high, off }) {
  const at = curve(low, high, off);
  return [...Array(STEPS + 1).keys()].map((i) => rounded6(at(i / STEPS))).concat(off ?? []);
}

function rounded6(x) {
  return Math.abs(x) < 0.1 || (x > 0.9 && x < 1) ? Number(x.toFixed(6)) : rounded(x);
}

/** The values of a slider, one for each step of it. Off comes first where it is no number. */
export function stops(field) {
  const { low, high, open, off } = field;
  const inside = (x) =>
    (low === null || (open[0] ? x > low : x >= low)) &&
    (high === null || (open[1] ? x < high : x <= high));
  const values = field.kind === "integer" ? integers(field) : numbers(field);
  const sorted = [...new Set(values.filter(inside))].sort((a, b) => a - b);
  return off === null ? [null, ...sorted] : sorted;
}

/** The step of a slider that is nearest to a value. */
export function nearest(values, value) {
  if (value === null) return Math.max(values.indexOf(null), 0);
  let best = -1;
  values.forEach((x, i) => {
    if (x === null) return;
    if (best < 0 || Math.abs(x - value) < Math.abs(values[best] - value)) best = i;
  });
  return best;
}
