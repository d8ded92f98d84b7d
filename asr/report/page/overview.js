// The first view: results, comparisons, where the errors are, how the training went.

const MOST_SPEAKERS = 12;
const MOST_LETTERS = 30;
const MOST_BINS = 8;
// A rate of fewer words than these is mostly luck: it is shown pale.
const FEW_WORDS = 30;

function showOverview() {
  const system = systems[state.system];
  $("view-overview").replaceChildren(
    resultsCard(),
    ...(content.comparisons.length ? [sentencesCard("Comparison of systems", content.comparisons)] : []),
    ...errorCards(system),
    ...curveCards(),
    confusionsCard(system),
    ...(content.notes.length ? [sentencesCard("How it was measured", content.notes)] : []),
    h("footer", { class: "footer" }, `Written by ${content.generator}. This file loads nothing from any network.`),
  );
}

function card(title, note, ...children) {
  return h("section", { class: "card" }, h("h2", {}, title), note ? h("p", { class: "muted" }, note) : null, ...children);
}

function sentencesCard(title, sentences) {
  const element = card(title, null, h("ul", { class: "sentences" }, sentences.map((text) => h("li", {}, text))));
  element.classList.add("wide");
  return element;
}

const isTimed = systems.some((system) => system.result.rtf !== null);
const ends = (low, high) => (low === null ? "–" : `${percent(low)} – ${percent(high)}`);
const isPart = (r) => r.utterances < r.whole;
// Of each number its name, which stands above the column or, on a narrow screen, above the number itself.
const RESULT_NUMBERS = [
  ["WER %", (r) => percent(r.wer)],
  ["WER 95 %", (r) => ends(r.wer_low, r.wer_high)],
  ["CER %", (r) => percent(r.cer)],
  ["CER 95 %", (r) => ends(r.cer_low, r.cer_high)],
  ["sub", (r) => whole(r.substitutions)],
  ["del", (r) => whole(r.deletions)],
  ["ins", (r) => whole(r.insertions)],
  ["words", (r) => whole(r.words)],
  ["utterances", (r) => whole(r.utterances) + (isPart(r) ? ` of ${whole(r.whole)}` : "")],
  ...(isTimed ? [["RTF", (r) => (r.rtf === null ? "–" : r.rtf.toFixed(3))]] : []),
];

function resultsCard() {
  const limit = Math.max(...systems.map((system) => system.result.wer_high), 1e-6);
  const note = `${content.intervals}${isTimed ? " RTF: seconds of computing per second of audio." : ""}`;
  const [first, ...others] = RESULT_NUMBERS.map(([name]) => h("th", { scope: "col", class: "number" }, name));
  const head = h("tr", {}, h("th", { scope: "col" }, "Subset"), h("th", { scope: "col" }, "System"), first, h("td"), others);
  const table = h("table", { class: "results" }, h("thead", {}, head), h("tbody", {}, systems.map((system, number) => resultRow(system, number, limit))));
  const element = card("Word error rate", note, h("div", { class: "scroll" }, table));
  element.classList.add("wide");
  return element;
}

function resultRow(system, number, limit) {
  const r = system.result;
  const [first, ...others] = RESULT_NUMBERS.map(([name, shown]) => h("td", { class: "number", "data-label": name }, shown(r)));
  first.classList.add("big");
  return h("tr", { class: number === state.system ? "chosen" : "" },
    h("td", { class: "name" }, r.subset + (isPart(r) ? " (part)" : "")),
    h("td", { class: "name" }, h("button", {
      type: "button", class: "link", "aria-pressed": String(number === state.system), onclick: () => chooseSystem(number),
    }, system.name)),
    first, h("td", { class: "plot-cell" }, r.wer === null ? null : intervalPlot(r.wer, r.wer_low, r.wer_high, limit)), others);
}

function errorCards(system) {
  const cards = [];
  if (system.group.speakers.length > 1) cards.push(speakersCard(system));
  if (system.group.seconds.some((seconds) => seconds !== null)) cards.push(durationsCard(system));
  return cards;
}

/** Indices of the utterances of `group`, by `keyOf` them; those without a key are left out. */
function indicesBy(group, keyOf) {
  const found = new Map();
  group.ids.forEach((_, index) => {
    const key = keyOf(index);
    if (key === null) return;
    if (!found.has(key)) found.set(key, []);
    found.get(key).push(index);
  });
  return found;
}

function speakersCard(system) {
  const group = system.group;
  const results = [...indicesBy(group, (index) => group.speaker[index])]
    .map(([speaker, indices]) => ({ speaker, ...totalOf(system, indices) }))
    .sort((a, b) => b.rate - a.rate || a.speaker - b.speaker);
  const limit = Math.max(...results.map((each) => each.rate).filter(Number.isFinite), 1e-9);
  const list = h("ol", { class: "speakers" });
  const show = (most) => list.replaceChildren(...results.slice(0, most).map((each) => speakerRow(group, each, limit)));
  show(MOST_SPEAKERS);
  const more = h("button", { type: "button", onclick: () => { show(Infinity); more.remove(); } }, `All ${results.length} speakers`);
  return card("WER by speaker", `${system.label}. The worst first, with the number of words (w); pale: fewer than ${FEW_WORDS}. Choose one to see the utterances.`, list,
    results.length > MOST_SPEAKERS ? more : null);
}

function speakerRow(group, each, limit) {
  const name = group.speakers[each.speaker] || "(unknown)";
  const counts = `${plural(each.words, "word")}, ${plural(each.utterances, "utterance")}`;
  return h("li", {}, h("button", {
    type: "button", class: "bar-row", title: `${name}: ${counts}`, "aria-label": `${name}: WER ${percent(each.rate, 1)} %, ${counts}`,
    onclick: () => filterUtterances({ speaker: String(each.speaker) }),
  },
  h("span", { class: "bar-name" }, shortened(name, MOST_LETTERS)),
  h("span", { class: "bar-track" }, h("span", { class: each.words < FEW_WORDS ? "bar-fill few" : "bar-fill", css: { width: `${(100 * Math.min(each.rate, limit)) / limit}%` } })),
  h("span", { class: "bar-value" }, `${percent(each.rate, 1)} %`),
  h("span", { class: "bar-note" }, `${whole(each.words)} w`)));
}

/** Edges of at most `MOST_BINS` stretches of equal round width that hold all `values`. */
function binEdges(values) {
  const low = values.reduce((a, b) => Math.min(a, b));
  const high = values.reduce((a, b) => Math.max(a, b));
  const width = [0.1, 0.2, 0.25, 0.5, 1, 2, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600]
    .find((each) => Math.floor(high / each) - Math.floor(low / each) < MOST_BINS) ?? high;
  return { start: Math.floor(low / width) * width, width };
}

function durationsCard(system) {
  const group = system.group;
  const { start, width } = binEdges(group.seconds.filter((seconds) => seconds !== null));
  const binOf = (index) => (group.seconds[index] === null ? null : Math.floor((group.seconds[index] - start) / width + 1e-9));
  const bars = [...indicesBy(group, binOf)].sort(([a], [b]) => a - b).map(([bin, indices]) => {
    const total = totalOf(system, indices);
    const from = Number((start + bin * width).toFixed(2));
    const to = Number((from + width).toFixed(2));
    return {
      label: `${from}–${to}`, few: total.words < FEW_WORDS, note: `${whole(indices.length)} u`, value: Number(percent(total.rate, 1)) || 0,
      title: `${from} to ${to} s: WER ${percent(total.rate, 1)} %, ${plural(total.words, "word")}, ${plural(indices.length, "utterance")}`,
      choose: () => filterUtterances({ duration: { from, to } }),
    };
  });
  return card("WER by duration", `${system.label}. Per cent over seconds, with the number of utterances (u); pale: fewer than ${FEW_WORDS} words.`,
    barPlot("Word error rate by duration", bars));
}

function curveCards() {
  const of = (name, factor = 1) => content.curve.filter((each) => each[name] !== null && each.epoch !== null)
    .map((each) => [each.epoch, factor * each[name]]);
  const losses = [
    { label: "training", mark: "first", points: of("train_loss") },
    { label: "development", mark: "second", points: of("loss") },
  ].filter((line) => line.points.length);
  const errors = [{ label: "development", mark: "second", points: of("wer", 100) }].filter((line) => line.points.length);
  const isPositive = losses.every((line) => line.points.every(([, y]) => y > 0));
  return [
    losses.length && card("Learning curve: loss", "Nats per token, by epoch; a dot marks the least.",
      legend(losses), linePlot("Losses by epoch", losses, { scale: isPositive ? Math.log : (value) => value })),
    errors.length && card("Learning curve: WER", "Per cent on the development set, by epoch; the axis runs with the square root.",
      legend(errors), linePlot("Development word error rate by epoch", errors, { scale: Math.sqrt })),
  ].filter(Boolean);
}
