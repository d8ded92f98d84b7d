// Plots as inline SVG: bars and lines with axes. Sizes are those of a phone; wider screens enlarge or repeat them.

const PLOT = { width: 380, height: 220, left: 46, right: 12, top: 14, bottom: 34 };

/** About `count` round numbers from `low` to `high`. */
function roundTicks(low, high, count = 4) {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((each) => each >= rough * 0.999);
  const ticks = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k += 1) ticks.push(k * step);
  return ticks;
}

/** Powers of ten, with 2 and 5 between them where there are few. */
function logarithmicTicks(low, high) {
  const factors = Math.log10(high / low) > 2.5 ? [1] : [1, 2, 5];
  const ticks = [];
  for (let power = Math.floor(Math.log10(low)); 10 ** power <= high; power += 1) {
    for (const factor of factors) {
      const tick = factor * 10 ** power;
      if (tick >= low * 0.999 && tick <= high * 1.001) ticks.push(tick);
    }
  }
  return ticks.length > 1 ? ticks : roundTicks(low, high);
}

const shortNumber = (value) => String(Number(value.toPrecision(3)));

function frame(label) {
  return s("svg", { viewBox: `0 0 ${PLOT.width} ${PLOT.height}`, role: "group", "aria-label": label, class: "plot" });
}

/** Horizontal lines with their values. */
function valueAxis(svg, ticks, yOf) {
  for (const tick of ticks) {
    const y = yOf(tick);
    svg.append(
      s("line", { x1: PLOT.left, x2: PLOT.width - PLOT.right, y1: y, y2: y, class: "grid" }),
      s("text", { x: PLOT.left - 6, y: y + 4, "text-anchor": "end", class: "tick" }, shortNumber(tick)),
    );
  }
}

/** Bars {label, note, value, title, choose}; a bar that is chosen filters the utterances. */
function barPlot(label, bars) {
  const svg = frame(label);
  const high = Math.max(...bars.map((bar) => bar.value), 1e-9) * 1.12;
  const yOf = (value) => PLOT.height - PLOT.bottom - (value / high) * (PLOT.height - PLOT.top - PLOT.bottom);
  valueAxis(svg, roundTicks(0, high), yOf);
  const step = (PLOT.width - PLOT.left - PLOT.right) / bars.length;
  bars.forEach((bar, index) => {
    const x = PLOT.left + step * index;
    const middle = x + step / 2;
    const y = yOf(bar.value);
    svg.append(
      s(
        "g",
        {
          role: "button", tabindex: 0, class: "bar", "aria-label": bar.title,
          onclick: bar.choose,
          onkeydown: (event) => event.key === "Enter" && bar.choose(),
        },
        s("title", {}, bar.title),
        s("rect", { x, y: PLOT.top, width: step, height: PLOT.height - PLOT.top, class: "reach" }),
        s("rect", { x: x + step * 0.14, y, width: step * 0.72, height: PLOT.height - PLOT.bottom - y, rx: 3, class: bar.few ? "fill few" : "fill" }),
        s("text", { x: middle, y: y - 4, "text-anchor": "middle", class: "value" }, shortNumber(bar.value)),
        s("text", { x: middle, y: PLOT.height - 20, "text-anchor": "middle", class: "tick" }, bar.label),
        s("text", { x: middle, y: PLOT.height - 6, "text-anchor": "middle", class: "note" }, bar.note),
      ),
    );
  });
  return svg;
}

/** Per cents that lie evenly on an axis that runs with the square root. */
function rootTicks(high) {
  const ticks = [0, 1, 2, 5, 10, 20, 50, 100, 200, 500].filter((tick) => tick <= high);
  return ticks.filter((tick) => tick === 0 || Math.sqrt(tick / high) > 0.12);
}

function axisTicks(scale, low, high) {
  if (scale === Math.log) return logarithmicTicks(low, high);
  return scale === Math.sqrt ? rootTicks(high) : roundTicks(low, high);
}

/** Lines {label, mark, points: [[x, y], ...]} over epochs; `scale` is the logarithm, the square root or the identity. */
function linePlot(label, lines, { scale }) {
  const svg = frame(label);
  const points = lines.flatMap((line) => line.points);
  const values = points.map(([, y]) => y);
  const low = scale === Math.log ? Math.min(...values) * 0.9 : 0;
  const high = Math.max(...values, 1e-9) * 1.08;
  const share = (value) => (scale(value) - scale(low)) / (scale(high) - scale(low) || 1);
  const yOf = (value) => PLOT.height - PLOT.bottom - share(value) * (PLOT.height - PLOT.top - PLOT.bottom);
  const first = Math.min(...points.map(([x]) => x));
  const last = Math.max(...points.map(([x]) => x), first + 1);
  const xOf = (x) => PLOT.left + ((x - first) / (last - first)) * (PLOT.width - PLOT.left - PLOT.right - 6);
  valueAxis(svg, axisTicks(scale, low, high), yOf);
  for (const tick of roundTicks(first, last, 6).filter(Number.isInteger)) {
    svg.append(s("text", { x: xOf(tick), y: PLOT.height - 18, "text-anchor": "middle", class: "tick" }, String(tick)));
  }
  svg.append(s("text", { x: (PLOT.width + PLOT.left) / 2, y: PLOT.height - 3, "text-anchor": "middle", class: "note" }, "epoch"));
  for (const line of lines) {
    const path = line.points.map(([x, y], k) => `${k ? "L" : "M"}${xOf(x).toFixed(1)} ${yOf(y).toFixed(1)}`).join("");
    svg.append(s("path", { d: path, class: `line ${line.mark}` }));
    const best = line.points.reduce((a, b) => (b[1] < a[1] ? b : a));
    svg.append(
      s("circle", { cx: xOf(best[0]), cy: yOf(best[1]), r: 3.5, class: `dot ${line.mark}` },
        s("title", {}, `${line.label}: least ${shortNumber(best[1])} in epoch ${best[0]}`)),
    );
  }
  return svg;
}

/** What the lines of a plot are. */
function legend(lines) {
  return h("p", { class: "legend" }, lines.map((line) =>
    h("span", {}, s("svg", { viewBox: "0 0 24 8", class: "swatch", "aria-hidden": "true" },
      s("path", { d: "M0 4H24", class: `line ${line.mark}` })), line.label)));
}

/** A rate and its 95 % interval on a scale from 0 to `high`. */
function intervalPlot(rate, low, high, limit) {
  const xOf = (value) => 4 + (value / limit) * 152;
  return s("svg", { viewBox: "0 0 160 18", class: "interval", "aria-hidden": "true" },
    s("line", { x1: 4, x2: 156, y1: 9, y2: 9, class: "grid" }),
    s("line", { x1: xOf(low), x2: xOf(high), y1: 9, y2: 9, class: "whisker" }),
    s("line", { x1: xOf(low), x2: xOf(low), y1: 5, y2: 13, class: "whisker thin" }),
    s("line", { x1: xOf(high), x2: xOf(high), y1: 5, y2: 13, class: "whisker thin" }),
    s("circle", { cx: xOf(rate), cy: 9, r: 4.5, class: "dot" }));
}
