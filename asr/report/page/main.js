// What is chosen, and how the parts hear of it.

const state = {
  system: 0, view: "overview",
  order: 0, descending: true,
  query: "", which: "all", speaker: "", duration: null, confusion: null,
  shown: [], position: 0, isOpen: false,
};

function chooseSystem(number) {
  const before = systems[state.system].group;
  state.system = number;
  $("system").value = String(number);
  if (systems[number].group !== before) changeGroup();
  showOverview();
  updateList();
  if (!state.isOpen) return;
  if (state.shown.length) showUtterance();
  else closeUtterance();
}

/** Another subset has other utterances and speakers: what was chosen among the old ones is dropped. */
function changeGroup() {
  if (state.isOpen) closeUtterance();
  Object.assign(state, { speaker: "", duration: null, confusion: null, shown: [], position: 0 });
  fillChoices();
}

function fillChoices() {
  const { group } = systems[state.system];
  const choices = group.speakers.map((name, number) => h("option", { value: number }, name || "(unknown)"));
  $("speaker").replaceChildren(h("option", { value: "" }, "all speakers"), ...choices);
  $("speaker").parentElement.hidden = group.speakers.length < 2;
  const differ = $("which").querySelector("[value=differ]");
  if (group.systems.length > 1 && !differ) $("which").append(h("option", { value: "differ" }, "systems differ"));
  if (group.systems.length < 2 && differ) {
    differ.remove();
    if (state.which === "differ") state.which = "all";
  }
  $("which").value = state.which;
}

/** Show the utterances that pass just these filters. */
function filterUtterances(filters) {
  Object.assign(state, { query: "", which: "all", speaker: "", duration: null, confusion: null, ...filters });
  $("search").value = state.query;
  $("which").value = state.which;
  $("speaker").value = state.speaker;
  if (state.isOpen) closeUtterance();
  Object.assign(state, { shown: [], position: 0 });
  showView("utterances");
  updateList();
  $("rows").focus({ preventScroll: true });
}

function showView(name) {
  state.view = name;
  for (const each of ["overview", "utterances"]) {
    $(`view-${each}`).hidden = each !== name;
    if (each === name) $(`tab-${each}`).setAttribute("aria-current", "page");
    else $(`tab-${each}`).removeAttribute("aria-current");
  }
  document.body.classList.toggle("exploring", name === "utterances");
  if (name === "utterances") {
    scrollToPosition();
    showRows();
  }
  if (!state.isOpen) setAddress(`#${name}`);
}

/** Remember in the address what is shown; `isNew` makes it a step that the back button of a phone undoes. */
function setAddress(hash, isNew = false) {
  try {
    if (isNew) history.pushState(null, "", hash);
    else history.replaceState(null, "", hash);
  } catch {
    // Some browsers refuse this for files; then the address stays as it is.
  }
}

/** Show what the address names. */
function followAddress() {
  const hash = decodeURIComponent(location.hash);
  if (hash.startsWith("#u=")) {
    const id = hash.slice(3);
    const number = systems.findIndex((system) => system.group.ids.includes(id));
    if (number < 0) return showView("utterances");
    if (!systems[state.system].group.ids.includes(id)) chooseSystem(number);
    showView("utterances");
    const position = state.shown.indexOf(systems[state.system].group.ids.indexOf(id));
    if (position >= 0) openUtterance(position);
    scrollToPosition();
    return undefined;
  }
  if (state.isOpen) closeUtterance();
  return showView(hash === "#utterances" ? "utterances" : "overview");
}

/** A function that waits until its callers pause, so that typing stays quick. */
function afterPause(action) {
  let timer = 0;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(action, 80);
  };
}

function listen() {
  $("search").addEventListener("input", afterPause(() => { state.query = $("search").value; updateList(); }));
  $("which").addEventListener("change", () => { state.which = $("which").value; updateList(); });
  $("speaker").addEventListener("change", () => { state.speaker = $("speaker").value; updateList(); });
  $("system").addEventListener("change", () => chooseSystem(Number($("system").value)));
  document.querySelector(".filters").addEventListener("submit", (event) => event.preventDefault());
  $("rows").addEventListener("scroll", () => requestAnimationFrame(showRows), { passive: true });
  $("help-button").addEventListener("click", () => $("help").showModal());
  for (const name of ["overview", "utterances"]) {
    $(`tab-${name}`).addEventListener("click", (event) => { event.preventDefault(); showView(name); });
  }
  document.addEventListener("keydown", pressed);
  addEventListener("hashchange", followAddress);
  addEventListener("resize", showRows);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => opened.view && draw(opened.view));
}

$("system").replaceChildren(...systems.map((system, number) => h("option", { value: number }, system.label)));
document.querySelector(".system-choice").hidden = systems.length < 2;
fillChoices();
listen();
showOverview();
updateList();
followAddress();
document.documentElement.dataset.ready = String(Math.round(performance.now()));
