// The recording over time, on one canvas: waveform, log-mel picture, probabilities of tokens, words as heard.

const LANES = { wave: 46, picture: 104, tokens: 104, words: 22, axis: 18 };
// What stands at the left end of each lane; tokens leave a line for it.
const LANE_NAMES = { wave: "waveform", picture: "log-mel", tokens: "tokens" };
const NAME_HEIGHT = 12;
const LEAST_PIXELS_PER_SECOND = 84;
const PICTURE_LEVELS = 64; // the same as in details.py
const SHOWN_PROBABILITY = 0.2;
// Both run evenly in lightness, so that they read the same without colour vision.
const PALETTES = {
  light: ["#ffffff", "#dbe6f5", "#9dbbe3", "#4f83c4", "#1d4b8f", "#0a2149"],
  dark: ["#0c0a1f", "#3b0f70", "#8c2981", "#de4968", "#fe9f6d", "#fcfdbf"],
};

const isDark = () => matchMedia("(prefers-color-scheme: dark)").matches;
const styleOf = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** Colours of all levels as [red, green, blue], between the stops of a palette. */
function shades(stops) {
  const colours = stops.map((text) => [1, 3, 5].map((start) => parseInt(text.slice(start, start + 2), 16)));
  return Array.from({ length: PICTURE_LEVELS }, (_, level) => {
    const place = (level / (PICTURE_LEVELS - 1)) * (colours.length - 1);
    const left = Math.min(Math.floor(place), colours.length - 2);
    return colours[left].map((value, k) => value + (place - left) * (colours[left + 1][k] - value));
  });
}

/** The frame's likely tokens [{piece, probability}, ...], the most probable first; the blank among them. */
function likelyTokens(details, pieces, wanted) {
  let start = 0;
  for (let number = 0; number < wanted; number += 1) start += details.likelyCounts[number];
  const found = [{ piece: "blank", probability: details.blank[wanted] / 255 }];
  for (let k = start; k < start + details.likelyCounts[wanted]; k += 1) {
    found.push({ piece: shownPiece(pieces[details.likelyTokens[k]]), probability: details.likelyProbabilities[k] / 255 });
  }
  return found.sort((a, b) => b.probability - a.probability);
}

const shownPiece = (piece) => (piece === "▁" ? "␣" : piece ?? "?");

/** An element that shows `details`, moves with `player` and lets one choose a time. */
function timeline({ details, timed, pairs, pieces, soundSeconds, seconds, player }) {
  const canvas = h("canvas", { "aria-hidden": "true" });
  const cursor = h("div", { class: "cursor" });
  const strip = h("div", {
    class: "strip", role: "slider", tabindex: 0, "aria-label": "Time in the recording", "aria-valuemin": 0, "aria-valuemax": seconds.toFixed(2),
  }, canvas, cursor);
  const scroller = h("div", { class: "scroller" }, strip);
  const reading = h("p", { class: "reading" });
  const view = { details, timed, pairs, pieces, soundSeconds, seconds, canvas, strip, scroller, cursor, reading, time: 0, player };
  strip.addEventListener("pointerdown", (event) => chooseTime(view, event));
  strip.addEventListener("pointermove", (event) => event.buttons & 1 && chooseTime(view, event));
  strip.addEventListener("keydown", (event) => stepTime(view, event));
  new ResizeObserver(() => draw(view)).observe(scroller);
  const element = h("div", { class: "timeline" }, scroller, ...laneNames(), reading, h("p", { class: "caption" },
    "From above: waveform, the model's picture of the sound (low bands below), probability of tokens by frame (thin line: blank), words as heard."));
  view.element = element;
  showTime(view, 0);
  return view;
}

/** The names of the lanes, above the strip and not in it: they stay when it is scrolled. */
function laneNames() {
  let top = 0;
  return Object.entries(LANES).map(([lane, height]) => {
    const name = LANE_NAMES[lane] && h("span", { class: "lane", "aria-hidden": "true", css: { top: `${top}px` } }, LANE_NAMES[lane]);
    top += height;
    return name;
  });
}

function chooseTime(view, event) {
  const box = view.strip.getBoundingClientRect();
  const time = ((event.clientX - box.left) / box.width) * view.seconds;
  moveTo(view, Math.min(Math.max(time, 0), view.seconds));
}

function stepTime(view, event) {
  const step = { ArrowLeft: -1, ArrowRight: 1, PageDown: -10, PageUp: 10 }[event.key];
  if (step === undefined) return;
  event.preventDefault();
  event.stopPropagation(); // else the page would hear of it and step again
  moveTo(view, Math.min(Math.max(view.time + step * view.details.frameSeconds, 0), view.seconds));
}

function moveTo(view, time) {
  if (view.player.src) view.player.currentTime = time;
  showTime(view, time);
}

/** Put the cursor at `time` and say what the model took that moment for. */
function showTime(view, time) {
  view.time = time;
  const share = view.seconds ? time / view.seconds : 0;
  view.cursor.style.left = `${100 * share}%`;
  const number = Math.min(Math.floor(time / view.details.frameSeconds), view.details.frames - 1);
  const tokens = number >= 0 ? likelyTokens(view.details, view.pieces, number).filter((each) => each.probability >= 0.01) : [];
  const text = tokens.map((each) => `${each.piece} ${percent(each.probability, 0)} %`).join("   ");
  view.reading.replaceChildren(h("b", {}, `${time.toFixed(2)} s`), `   ${text}`);
  view.strip.setAttribute("aria-valuenow", time.toFixed(2));
  view.strip.setAttribute("aria-valuetext", `${time.toFixed(2)} seconds, ${text}`);
  keepInSight(view, share);
}

function keepInSight(view, share) {
  const x = share * view.strip.clientWidth;
  const { scrollLeft, clientWidth } = view.scroller;
  if (x < scrollLeft || x > scrollLeft + clientWidth) view.scroller.scrollLeft = x - clientWidth / 4;
}

/** Draw everything for the width that there is, in the colours of the day. */
function draw(view) {
  const height = Object.values(LANES).reduce((a, b) => a + b);
  const width = Math.max(view.scroller.clientWidth, Math.min(view.seconds * LEAST_PIXELS_PER_SECOND, 16000));
  if (!width) return;
  // Browsers refuse canvases beyond some 16,000 pixels: long recordings get fewer pixels per point.
  const density = Math.min(devicePixelRatio || 1, 2, 16000 / width);
  Object.assign(view.canvas, { width: width * density, height: height * density });
  for (const element of [view.strip, view.canvas]) Object.assign(element.style, { width: `${width}px`, height: `${height}px` });
  const context = view.canvas.getContext("2d");
  context.scale(density, density);
  const xOf = (seconds) => (seconds / (view.seconds || 1)) * width;
  let top = 0;
  for (const [lane, paint] of Object.entries({ wave: drawWave, picture: drawPicture, tokens: drawTokens, words: drawWords, axis: drawAxis })) {
    context.save();
    context.translate(0, top);
    paint(context, view, width, LANES[lane], xOf);
    context.restore();
    top += LANES[lane];
  }
}

function drawWave(context, { details, soundSeconds }, width, height, xOf) {
  context.fillStyle = styleOf("--wave");
  const { envelope } = details;
  const step = xOf(soundSeconds) / envelope.length;
  envelope.forEach((peak, index) => {
    const half = Math.max((peak / 255) * (height / 2 - 3), 0.5);
    context.fillRect(index * step, height / 2 - half, Math.max(step - 0.4, 0.6), 2 * half);
  });
}

function drawPicture(context, { details }, width, height, xOf) {
  const { bands, columns, picture, columnSeconds } = details;
  if (!bands || !columns) return;
  const colours = shades(PALETTES[isDark() ? "dark" : "light"]);
  const pixels = new ImageData(columns, bands);
  for (let band = 0; band < bands; band += 1) {
    for (let column = 0; column < columns; column += 1) {
      const start = 4 * ((bands - 1 - band) * columns + column);
      pixels.data.set(colours[picture[band * columns + column]], start);
      pixels.data[start + 3] = 255;
    }
  }
  const small = h("canvas", { width: columns, height: bands });
  small.getContext("2d").putImageData(pixels, 0, 0);
  context.drawImage(small, 0, 0, xOf(columns * columnSeconds), height);
}

function drawTokens(context, { details, pieces }, width, height, xOf) {
  const base = height - 4;
  const tall = height - 30 - NAME_HEIGHT;
  const step = xOf(details.frameSeconds);
  context.font = "11px system-ui, sans-serif";
  context.textAlign = "center";
  let start = 0;
  const labels = [];
  // Read once: asking the browser for a style thousands of times takes longer than drawing.
  const [first, others, ink] = ["--token", "--token-other", "--ink"].map(styleOf);
  let previous = -1;
  for (let number = 0; number < details.frames; number += 1) {
    const count = details.likelyCounts[number];
    for (let k = start + count - 1; k >= start; k -= 1) {
      const probability = details.likelyProbabilities[k] / 255;
      context.fillStyle = k === start ? first : others;
      context.fillRect(number * step, base - probability * tall, Math.max(step - 0.6, 0.8), probability * tall);
    }
    const best = count ? details.likelyTokens[start] : -1;
    const probability = count ? details.likelyProbabilities[start] / 255 : 0;
    if (probability >= SHOWN_PROBABILITY && best !== previous) {
      labels.push({ text: shownPiece(pieces[best]), middle: (number + 0.5) * step, probability });
    }
    previous = probability >= SHOWN_PROBABILITY ? best : -1;
    start += count;
  }
  context.fillStyle = ink;
  drawLabels(context, labels, width);
  drawBlank(context, details.blank, step, base, tall);
}

/** Pieces above their bars, each in the one of two rows that has room: the more probable first, so that others make way. */
function drawLabels(context, labels, width) {
  const rows = [[], []];
  for (const { text, middle } of labels.sort((a, b) => b.probability - a.probability)) {
    const half = context.measureText(text).width / 2 + 1;
    const x = Math.max(Math.min(middle, width - half), half);
    const row = [1, 0].find((each) => rows[each].every(([from, to]) => x + half <= from || x - half >= to));
    if (row === undefined) continue;
    rows[row].push([x - half, x + half]);
    context.fillText(text, x, NAME_HEIGHT + 11 + 11 * row);
  }
}

function drawBlank(context, blank, step, base, tall) {
  context.strokeStyle = styleOf("--muted");
  context.globalAlpha = 0.55;
  context.beginPath();
  blank.forEach((probability, number) => context.lineTo((number + 0.5) * step, base - (probability / 255) * tall));
  context.stroke();
}

function drawWords(context, { timed, pairs }, width, height, xOf) {
  const heard = pairs.filter((pair) => pair.kind !== "d");
  context.font = "12px system-ui, sans-serif";
  let end = -10;
  timed.forEach((word, position) => {
    const room = width - context.measureText(word.text).width - 1;
    const x = Math.max(Math.min(xOf(word.start), room), end + 5);
    const isWrong = heard[position] && heard[position].kind !== "=";
    context.fillStyle = styleOf(isWrong ? "--sub-ink" : "--ink");
    context.fillText(word.text, x, height - 7);
    end = x + context.measureText(word.text).width;
    if (isWrong) context.fillRect(x, height - 4, end - x, 1.5);
  });
}

function drawAxis(context, { seconds }, width, height, xOf) {
  context.fillStyle = context.strokeStyle = styleOf("--muted");
  context.font = "11px system-ui, sans-serif";
  for (const tick of roundTicks(0, seconds, Math.max(2, width / 90))) {
    const x = Math.min(Math.max(xOf(tick), 0.5), width - 0.5);
    context.fillRect(x, 0, 1, 4);
    context.textAlign = tick === 0 ? "left" : x > width - 20 ? "right" : "center";
    context.fillText(`${Number(tick.toFixed(2))} s`, x, height - 3);
  }
}
