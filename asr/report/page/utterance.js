// One utterance: sound, what the model saw, and every system's words below those that were said.

const MARKS = { s: "sub", d: "del", i: "ins" };
const KIND_NAMES = { s: "instead of", d: "deleted", i: "inserted" };

// What is open: its element for sound, its timeline, and the object URL to give back.
let opened = { player: null, view: null, address: "" };

/** Show the utterance at `position` of the list; the list keeps the keyboard. */
async function openUtterance(position) {
  const address = `#u=${encodeURIComponent(systems[state.system].group.ids[state.shown[position]])}`;
  setAddress(address, !state.isOpen);
  state.position = position;
  state.isOpen = true;
  showRows();
  await showUtterance();
}

function closeUtterance() {
  state.isOpen = false;
  forget();
  $("utterance").hidden = true;
  $("utterance").replaceChildren();
  document.body.classList.remove("reading-one");
  setAddress("#utterances");
  $("rows").focus({ preventScroll: true });
  showRows();
}

/** Stop the sound and free it. */
function forget() {
  opened.player?.pause();
  if (opened.address.startsWith("blob:")) URL.revokeObjectURL(opened.address);
  opened = { player: null, view: null, address: "" };
}

async function showUtterance() {
  const system = systems[state.system];
  const index = state.shown[state.position];
  const { group } = system;
  forget();
  const player = h("audio", { controls: true, preload: "metadata" });
  const player_place = h("div", { class: "player" });
  const picture = h("div", { class: "picture" });
  const blocks = h("div", { class: "alignments" });
  const place = $("utterance");
  place.replaceChildren(heading(group, index), player_place, picture, keyOfMarks(), blocks);
  place.hidden = false;
  place.scrollTop = 0;
  document.body.classList.add("reading-one");
  blocks.replaceChildren(...group.systems.map((each) => alignment(each, index, null)));
  opened.player = player;
  const [sound, details] = await Promise.all([soundOf(group, system.groupNumber, index), detailsOf(system.groupNumber, index).catch(() => null)]);
  // Meanwhile another utterance may have been opened.
  if (opened.player !== player) {
    if (sound.address?.startsWith("blob:")) URL.revokeObjectURL(sound.address);
    return;
  }
  showSound(player_place, player, sound);
  if (details) showPicture(picture, player, system, index, details);
  if (details) blocks.replaceChildren(...group.systems.map((each) => alignment(each, index, details)));
}

function heading(group, index) {
  const speaker = group.speakers[group.speaker[index]];
  const facts = [speaker && `speaker ${speaker}`, group.seconds[index] !== null && clock(group.seconds[index]), group.subset];
  const button = (text, label, action, disabled) => h("button", { type: "button", "aria-label": label, title: label, onclick: action, disabled }, text);
  return h("header", { class: "utterance-head" },
    h("div", {}, h("h2", {}, group.ids[index]), h("p", { class: "muted" }, facts.filter(Boolean).join(" · "))),
    h("div", { class: "buttons" },
      button("‹", "Previous utterance (k)", () => moveBy(-1), state.position === 0),
      button("›", "Next utterance (j)", () => moveBy(1), state.position === state.shown.length - 1),
      button("✕", "Close (Esc)", closeUtterance)));
}

function keyOfMarks() {
  return h("p", { class: "key muted" }, "Above: said. Below: heard; the longer the line, the surer. ",
    h("span", { class: "word sub" }, "substituted"), " ", h("span", { class: "word del" }, "deleted"), " ", h("span", { class: "word ins" }, "inserted"));
}

function showSound(place, player, sound) {
  if (sound.why) {
    opened.player = null;
    place.replaceChildren(h("p", { class: "muted" }, sound.why));
    return;
  }
  opened.address = player.src = sound.address;
  player.addEventListener("error", () => place.replaceChildren(h("p", { class: "muted" },
    `This browser cannot play ${sound.address.startsWith("blob:") ? "the embedded sound" : decodeURIComponent(sound.address)}: missing, or of a kind that it does not know.`)));
  place.replaceChildren(player);
}

function showPicture(place, player, system, index, details) {
  if (!details.frames && !details.columns) return;
  const heard = details.systems[system.number];
  const timed = timedWords(heard, system.pieces, details.frameSeconds);
  // The last frame reaches beyond the end of the sound, and some models say their last token there.
  const soundSeconds = system.group.seconds[index] ?? details.frames * details.frameSeconds;
  const seconds = Math.max(soundSeconds, details.frames * details.frameSeconds);
  // Another system of the group may be the one that the probabilities are from; they share the model's pieces.
  const pieces = system.group.systems.find((each) => each.pieces.length)?.pieces ?? [];
  const view = timeline({ details, timed, pairs: alignedWords(system, index), pieces, soundSeconds, seconds, player });
  place.replaceChildren(view.element);
  opened.view = view;
  player.addEventListener("timeupdate", () => showTime(view, Math.min(player.currentTime, seconds)));
  player.addEventListener("play", () => follow(player, view, seconds));
}

/** Move the cursor with the sound: browsers report the time only four times a second. */
function follow(player, view, seconds) {
  if (player.paused || opened.view !== view) return;
  showTime(view, Math.min(player.currentTime, seconds));
  requestAnimationFrame(() => follow(player, view, seconds));
}

/** The words of one system below those that were said; with `details`, each with its confidence and time. */
function alignment(system, index, details) {
  const { errors, lengths } = countsOf(system);
  const confidence = system.confidences[index];
  const facts = [
    `${errors[index]} of ${plural(lengths[index], "word")} wrong`, `WER ${percent(rateOf(system, index), 1)} %`,
    `${plural(system.characterErrors[index], "character error")}`, confidence !== null && `${percent(confidence, 1)} % sure`,
  ];
  const pairs = alignedWords(system, index);
  const heard = details && details.systems[system.number];
  const timed = heard ? timedWords(heard, system.pieces, details.frameSeconds) : [];
  // Times belong to the words only where the tokens spell just these.
  const isTimed = timed.map((word) => word.text).join(" ") === hypothesisOf(system, index);
  let next = 0;
  return h("section", { class: "alignment", "aria-label": system.name },
    h("h3", {}, system.name, h("span", { class: "muted" }, ` ${facts.filter(Boolean).join(" · ")}`)),
    h("div", { class: "pairs" }, pairs.map((pair) => wordPair(pair, isTimed && pair.kind !== "d" ? timed[next++] : null))),
    pairs.length ? null : h("p", { class: "muted" }, "nothing said, nothing heard"));
}

function wordPair(pair, time) {
  const mark = MARKS[pair.kind] ?? "same";
  const heard = pair.kind === "d" ? "∅" : pair.heard;
  const label = pair.kind === "=" ? pair.heard : pair.kind === "s" ? `${pair.heard}, instead of ${pair.said}` : `${pair.said || pair.heard}, ${KIND_NAMES[pair.kind]}`;
  const below = time
    ? h("button", { type: "button", class: `heard ${mark}`, "aria-label": label, title: `${time.start.toFixed(2)} s, ${percent(time.confidence, 0)} % sure`, onclick: () => playFrom(time) },
      heard, h("span", { class: "sure", css: { width: `${100 * time.confidence}%` } }))
    : h("span", { class: `heard ${mark}` }, heard);
  return h("span", { class: `pair ${mark}` }, h("span", { class: "said" }, pair.kind === "i" ? "+" : pair.said), below);
}

/** Play from just before a word: CTC marks it where it is sure, which is rarely the beginning. */
function playFrom(word) {
  const time = Math.max(0, word.start - 0.15);
  if (opened.view) showTime(opened.view, time);
  if (!opened.player?.src) return;
  opened.player.currentTime = time;
  opened.player.play().catch(() => {});
}

function togglePlaying() {
  const { player } = opened;
  if (!player?.src) return;
  if (player.paused) player.play().catch(() => {});
  else player.pause();
}
