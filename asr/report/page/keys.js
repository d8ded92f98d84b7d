// The keyboard: everything that a finger can do.

const isTyping = (element) => element.matches("input, select, textarea");
const takesSpace = (element) => element.matches("input, select, textarea, button, a, summary, audio");

const KEYS = {
  j: () => moveBy(1), k: () => moveBy(-1),
  ArrowDown: () => moveBy(1), ArrowUp: () => moveBy(-1),
  Home: () => moveBy(-Infinity), End: () => moveBy(Infinity),
  "/": () => { showView("utterances"); $("search").focus(); $("search").select(); },
  x: () => filterUtterances({}),
  s: () => chooseSystem((state.system + 1) % systems.length),
  ArrowLeft: (event) => opened.view && stepTime(opened.view, event),
  ArrowRight: (event) => opened.view && stepTime(opened.view, event),
  o: () => showView("overview"),
  u: () => showView("utterances"),
  "?": () => $("help").showModal(),
};

/** Select, and where one is open open, the utterance `step` further in the list. */
function moveBy(step) {
  if (state.view !== "utterances") showView("utterances");
  if (!state.shown.length) return;
  const position = Math.min(Math.max(state.position + step, 0), state.shown.length - 1);
  if (position === state.position && state.isOpen) return;
  state.position = position;
  scrollToPosition();
  if (state.isOpen) openUtterance(position);
  else showRows();
}

function escape() {
  if (isTyping(document.activeElement)) document.activeElement.blur();
  else if (state.isOpen) closeUtterance();
}

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || $("help").open) return;
  const { target, key } = event;
  if (key === "Escape") escape();
  else if (isTyping(target)) {
    if (key !== "Enter" || target.id !== "search") return;
    $("rows").focus();
  } else if (key === " " && !takesSpace(target)) togglePlaying();
  else if (key === "Enter" && (target === document.body || target.id === "rows")) openSelected();
  else if (/^[1-6]$/.test(key)) { showView("utterances"); sortBy(Number(key) - 1); }
  else if (Object.hasOwn(KEYS, key) && !(state.view === "overview" && /^(Arrow|Home|End)/.test(key))) KEYS[key](event);
  else return;
  event.preventDefault();
}

function openSelected() {
  if (state.view === "utterances" && state.shown.length) openUtterance(state.position);
}
