// What is taken for what: the most frequent errors of each kind, each a door to the utterances that have it.

const MOST_CONFUSIONS = 12;
const KINDS = [["s", "Substituted"], ["d", "Deleted"], ["i", "Inserted"]];

/** Errors of `system` by kind and words: [{kind, said, heard, count}, ...], the most frequent first. */
function confusionsOf(system) {
  if (system.confusions) return system.confusions;
  const found = new Map();
  system.alignments.forEach((alignment, index) => {
    if (alignment === 0) return;
    for (const { kind, said, heard } of alignedWords(system, index)) {
      if (kind === "=") continue;
      const key = `${kind} ${said} ${heard}`;
      const entry = found.get(key) ?? { kind, said, heard, count: 0 };
      entry.count += 1;
      found.set(key, entry);
    }
  });
  system.confusions = [...found.values()].sort((a, b) => b.count - a.count || (a.said + a.heard < b.said + b.heard ? -1 : 1));
  return system.confusions;
}

const hasConfusion = (system, index, { kind, said, heard }) =>
  system.alignments[index] !== 0 &&
  alignedWords(system, index).some((pair) => pair.kind === kind && pair.said === said && pair.heard === heard);

function confusionText({ kind, said, heard }) {
  return { s: `${said} → ${heard}`, d: `${said} deleted`, i: `${heard} inserted` }[kind];
}

function confusionsCard(system) {
  const element = card("Confusions", `${system.label}. Choose one to see the utterances that have it.`,
    h("div", { class: "confusions" }, KINDS.map(([kind, title]) => confusionList(system, kind, title))));
  element.classList.add("wide");
  return element;
}

function confusionList(system, kind, title) {
  const entries = confusionsOf(system).filter((entry) => entry.kind === kind);
  const total = entries.reduce((sum, entry) => sum + entry.count, 0);
  const list = h("ol", {});
  const show = (most) => list.replaceChildren(...entries.slice(0, most).map(confusionRow));
  show(MOST_CONFUSIONS);
  const more = h("button", { type: "button", onclick: () => { show(200); more.remove(); } }, "More");
  return h("div", {}, h("h3", {}, title, " ", h("span", { class: "muted" }, whole(total))), list,
    entries.length === 0 ? h("p", { class: "muted" }, "none") : null,
    entries.length > MOST_CONFUSIONS ? more : null);
}

function confusionRow(entry) {
  const shown = {
    s: [h("span", { class: "said" }, entry.said), " → ", h("span", { class: "word sub" }, entry.heard)],
    d: [h("span", { class: "word del" }, entry.said)],
    i: [h("span", { class: "word ins" }, entry.heard)],
  }[entry.kind];
  return h("li", {}, h("button", {
    type: "button", class: "confusion", "aria-label": `${confusionText(entry)}, ${entry.count} times`,
    onclick: () => filterUtterances({ confusion: entry }),
  }, h("span", {}, ...shown), h("span", { class: "muted" }, whole(entry.count))));
}
