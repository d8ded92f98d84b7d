// The list of utterances: which are shown, in which order. Only rows in sight exist, however many utterances there are.

const ROW_HEIGHT = 60; // the same as in report.css
const ROWS_BEYOND = 6;
const WORDS_BEFORE_ERROR = 3;
const WORDS_SHOWN = 40;

/** Orders: what a row is sorted by, whether the highest comes first, and where it is not always known, whether it is. */
const ORDERS = [
  { name: "errors", descending: true, keyOf: (system, index) => countsOf(system).errors[index] },
  { name: "WER", descending: true, keyOf: rateOf },
  { name: "duration", descending: true, keyOf: (system, index) => system.group.seconds[index] ?? -1, isKnown: (system) => system.group.seconds.some((each) => each !== null) },
  { name: "confidence", descending: false, keyOf: (system, index) => system.confidences[index] ?? 2, isKnown: (system) => system.confidences.some((each) => each !== null) },
  { name: "speaker", descending: false, keyOf: (system, index) => system.group.speaker[index], isKnown: (system) => system.group.speakers.length > 1 },
  { name: "id", descending: false, keyOf: (system, index) => index },
];

/** Indices of the utterances that pass all filters, in the chosen order. */
function findShown() {
  const system = systems[state.system];
  const wanted = words(state.query.trim().toLowerCase());
  const indices = system.group.ids.map((_, index) => index).filter((index) => passes(system, index, wanted));
  const { keyOf } = ORDERS[state.order];
  const keys = new Map(indices.map((index) => [index, keyOf(system, index)]));
  const sign = state.descending ? -1 : 1;
  // Equals stay in the order of ids: the same choice always gives the same list.
  return indices.sort((a, b) => (keys.get(a) === keys.get(b) ? a - b : sign * (keys.get(a) < keys.get(b) ? -1 : 1)));
}

function passes(system, index, wanted) {
  const { group } = system;
  if (state.which === "wrong" && countsOf(system).errors[index] === 0) return false;
  if (state.which === "right" && countsOf(system).errors[index] > 0) return false;
  if (state.which === "differ" && !systemsDiffer(group, index)) return false;
  if (state.speaker !== "" && group.speaker[index] !== Number(state.speaker)) return false;
  if (state.duration !== null) {
    const seconds = group.seconds[index];
    if (seconds === null || seconds < state.duration.from || seconds >= state.duration.to) return false;
  }
  if (state.confusion !== null && !hasConfusion(system, index, state.confusion)) return false;
  return wanted.every((word) => searchedText(group, index).includes(word));
}

const systemsDiffer = (group, index) =>
  group.systems.some((system) => hypothesisOf(system, index) !== hypothesisOf(group.systems[0], index));

/** Find anew what is shown; the selected utterance stays selected where it is still there. */
function updateList() {
  const before = state.shown[state.position];
  state.shown = findShown();
  state.position = Math.max(0, state.shown.indexOf(before));
  $("spacer").style.height = `${state.shown.length * ROW_HEIGHT}px`;
  const system = systems[state.system];
  const total = totalOf(system, state.shown);
  $("count").textContent = state.shown.length
    ? `${plural(state.shown.length, "utterance")}, ${plural(total.errors, "error")} in ${plural(total.words, "word")}: ${percent(total.rate)} %`
    : "No utterance passes these filters.";
  showSorting();
  showChips();
  scrollToPosition();
  showRows();
}

function showSorting() {
  const chosen = (number) => number === state.order;
  $("sorting").replaceChildren(...ORDERS.map((order, number) => h("button", {
    type: "button", "aria-pressed": String(chosen(number)), "data-order": order.name, title: `Sort by ${order.name} (${number + 1})`,
    hidden: order.isKnown !== undefined && !order.isKnown(systems[state.system]), onclick: () => sortBy(number),
  }, order.name, chosen(number) ? h("span", { "aria-label": state.descending ? "descending" : "ascending" }, state.descending ? " ↓" : " ↑") : null)));
}

/** Sort by the order of that number; again: the other way round. */
function sortBy(number) {
  state.descending = number === state.order ? !state.descending : ORDERS[number].descending;
  state.order = number;
  state.shown = [];
  updateList();
}

/** Filters that have no field of their own, each with a button that drops it. */
function showChips() {
  const chip = (text, drop) => h("button", { type: "button", class: "chip", "aria-label": `Drop the filter: ${text}`, onclick: () => { drop(); updateList(); } },
    text, h("span", { "aria-hidden": "true" }, " ✕"));
  $("chips").replaceChildren(...[
    state.confusion && chip(confusionText(state.confusion), () => { state.confusion = null; }),
    state.duration && chip(`${state.duration.from} to ${state.duration.to} s`, () => { state.duration = null; }),
  ].filter(Boolean));
}

function scrollToPosition() {
  const rows = $("rows");
  const top = state.position * ROW_HEIGHT;
  if (top < rows.scrollTop) rows.scrollTop = top;
  else if (top + ROW_HEIGHT > rows.scrollTop + rows.clientHeight) rows.scrollTop = top + ROW_HEIGHT - rows.clientHeight;
}

/** Make the rows that are in sight. */
function showRows() {
  const rows = $("rows");
  const first = Math.max(0, Math.floor(rows.scrollTop / ROW_HEIGHT) - ROWS_BEYOND);
  const last = Math.min(state.shown.length, Math.ceil((rows.scrollTop + rows.clientHeight) / ROW_HEIGHT) + ROWS_BEYOND);
  const system = systems[state.system];
  const elements = [];
  for (let position = first; position < last; position += 1) elements.push(row(system, position));
  $("spacer").replaceChildren(...elements);
  const isHere = state.position >= first && state.position < last;
  if (isHere) rows.setAttribute("aria-activedescendant", `row-${state.position}`);
  else rows.removeAttribute("aria-activedescendant");
}

function row(system, position) {
  const { group } = system;
  const index = state.shown[position];
  const { errors, lengths } = countsOf(system);
  const speaker = group.speakers[group.speaker[index]];
  const confidence = system.confidences[index];
  const facts = [
    speaker, group.seconds[index] === null ? null : clock(group.seconds[index]),
    confidence === null ? null : `${percent(confidence, 0)} % sure`,
  ].filter(Boolean);
  return h("div", {
    role: "option", id: `row-${position}`, class: "row", "aria-selected": String(position === state.position),
    "aria-setsize": state.shown.length, "aria-posinset": position + 1, "data-id": group.ids[index],
    css: { transform: `translateY(${position * ROW_HEIGHT}px)` },
    onclick: () => openUtterance(position),
  },
  h("span", { class: errors[index] ? "score wrong" : "score" }, errors[index] ? `${errors[index]}/${lengths[index]}` : "✓",
    h("span", { class: "visually-hidden" }, errors[index] ? " words wrong" : " no error")),
  h("span", { class: "facts" }, h("span", { class: "row-id" }, group.ids[index]), h("span", {}, facts.join(" · "))),
  h("span", { class: "preview" }, ...preview(system, index)));
}

/** The words around the first error and behind it, or the text where there is none. */
function preview(system, index) {
  const pairs = alignedWords(system, index);
  const wrong = pairs.findIndex((pair) => pair.kind !== "=");
  const start = wrong > WORDS_BEFORE_ERROR + 1 ? wrong - WORDS_BEFORE_ERROR : 0;
  const parts = pairs.slice(start, start + WORDS_SHOWN).flatMap((pair) => [" ", markedWord(pair)]);
  return start ? ["…", ...parts] : parts.slice(1);
}

/** A word as it was heard, marked by colour and by line, behind what was said; a missing word is struck through. */
function markedWord({ kind, said, heard }) {
  if (kind === "=") return said;
  if (kind === "s") return h("span", {}, h("span", { class: "muted" }, `${said}→`), h("span", { class: "word sub" }, heard));
  return h("span", { class: kind === "d" ? "word del" : "word ins" }, kind === "d" ? said : heard);
}
