// What the report holds: groups of utterances, the systems that heard them, and the errors between the texts.

const content = JSON.parse($("content").textContent);

/** All systems, in order; each knows its group. */
const systems = content.groups.flatMap((group, groupNumber) =>
  group.systems.map((system, number) => Object.assign(system, { group, groupNumber, number })),
);
for (const system of systems) {
  const subset = system.group.subset;
  system.label = content.groups.length > 1 ? `${subset} · ${system.name}` : system.name;
}

const words = (text) => (text ? text.split(" ") : []);

/** The text that `system` heard in utterance `index`. */
function hypothesisOf(system, index) {
  return system.alignments[index] === 0 ? system.group.references[index] : system.hypotheses[index];
}

/** Pairs of words {kind, said, heard} of one utterance; kind is "=", "s", "d" or "i" (see content.py). */
function alignedWords(system, index) {
  const said = words(system.group.references[index]);
  if (system.alignments[index] === 0) return said.map((word) => ({ kind: "=", said: word, heard: word }));
  const heard = words(system.hypotheses[index]);
  const pairs = [];
  let nextSaid = 0;
  let nextHeard = 0;
  for (const [, run, kind] of system.alignments[index].matchAll(/(\d+)([=sdi])/g)) {
    for (let count = Number(run); count > 0; count -= 1) {
      pairs.push({
        kind,
        said: kind === "i" ? "" : said[nextSaid++],
        heard: kind === "d" ? "" : heard[nextHeard++],
      });
    }
  }
  return pairs;
}

/** Word errors and lengths of all utterances of `system`, counted once. */
function countsOf(system) {
  if (system.counts) return system.counts;
  const references = system.group.references;
  const errors = new Uint32Array(references.length);
  const lengths = new Uint32Array(references.length);
  references.forEach((text, index) => {
    lengths[index] = words(text).length;
    if (system.alignments[index] === 0) return;
    for (const [, run, kind] of system.alignments[index].matchAll(/(\d+)([sdi])/g)) errors[index] += Number(run);
  });
  system.counts = { errors, lengths };
  return system.counts;
}

/** Word error rate of one utterance; infinite where nothing was said and something heard. */
function rateOf(system, index) {
  const { errors, lengths } = countsOf(system);
  return errors[index] === 0 ? 0 : errors[index] / lengths[index];
}

/** Errors, words and utterances of those utterances of `system` that are listed. */
function totalOf(system, indices) {
  const { errors, lengths } = countsOf(system);
  const total = { errors: 0, words: 0, utterances: indices.length };
  for (const index of indices) {
    total.errors += errors[index];
    total.words += lengths[index];
  }
  total.rate = total.words ? total.errors / total.words : null;
  return total;
}

/** Everything in which a search may find utterance `index`, in small letters; made at the first search. */
function searchedText(group, index) {
  group.searched ??= group.ids.map((id, number) =>
    [
      id,
      group.speakers[group.speaker[number]],
      group.references[number],
      ...group.systems.map((system) => system.hypotheses[number] || ""),
    ]
      .join("\n")
      .toLowerCase(),
  );
  return group.searched[index];
}
