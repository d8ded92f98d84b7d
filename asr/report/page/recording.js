// What lies behind an utterance: inflated and cut into its parts when the utterance is opened, not before.
// The layout is that of packing.py.

const littleEndian = true;

function bytesOf(base64) {
  const binary = atob(base64);
  const bytes = new Uint8Array(binary.length);
  for (let index = 0; index < binary.length; index += 1) bytes[index] = binary.charCodeAt(index);
  return bytes;
}

async function inflated(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** The element with the details, once the browser has read that far: the page works before its end has arrived. */
async function detailsElement(name) {
  if (!$(name) && document.readyState === "loading") {
    await new Promise((resolve) => document.addEventListener("DOMContentLoaded", resolve, { once: true }));
  }
  return $(name);
}

/** The details of an utterance, null where none were collected. */
async function detailsOf(groupNumber, index) {
  const element = await detailsElement(`details-${groupNumber}-${index}`);
  if (!element) return null;
  const bytes = await inflated(bytesOf(element.textContent));
  return unpacked(bytes, content.groups[groupNumber].systems.length);
}

function unpacked(bytes, numSystems) {
  const view = new DataView(bytes.buffer);
  const [stretches, bands, columns, frames, likely] = [0, 1, 2, 3, 4].map((k) => view.getUint32(4 * k, littleEndian));
  let position = 28;
  const take = (length) => bytes.slice(position, (position += length));
  const take16 = (length) => new Uint16Array(take(2 * length).buffer);
  const take32 = (length) => new Uint32Array(take(4 * length).buffer);
  const details = {
    columnSeconds: view.getFloat32(20, littleEndian),
    frameSeconds: view.getFloat32(24, littleEndian),
    bands,
    columns,
    frames,
    envelope: take(stretches),
    picture: summed(take(bands * columns), columns),
    blank: take(frames),
    likelyCounts: take(frames),
    likelyTokens: take16(likely),
    likelyProbabilities: take(likely),
    systems: [],
  };
  for (let number = 0; number < numSystems; number += 1) {
    const count = view.getUint32(position, littleEndian);
    position += 4;
    details.systems.push({ tokens: take32(count), frames: take32(count), probabilities: take(count) });
  }
  return details;
}

/** The picture from the differences between its columns. */
function summed(picture, columns) {
  for (let index = 0; index < picture.length; index += 1) {
    if (index % columns) picture[index] += picture[index - 1];
  }
  return picture;
}

/** The words that `heard` tokens spell, each with its time in seconds and its confidence; pieces mark spaces with ▁. */
function timedWords(heard, pieces, frameSeconds) {
  const found = [];
  let word = null;
  heard.tokens.forEach((token, position) => {
    const piece = pieces[token] ?? "";
    if (piece.startsWith("▁")) word = null;
    const letters = piece.replaceAll("▁", "");
    if (!letters) return;
    const time = heard.frames[position] * frameSeconds;
    if (!word) found.push((word = { text: "", start: time, logarithms: 0, count: 0 }));
    word.text += letters;
    word.end = time + frameSeconds;
    word.logarithms += Math.log(Math.max(heard.probabilities[position], 0.5) / 255);
    word.count += 1;
  });
  for (const each of found) each.confidence = Math.exp(each.logarithms / each.count);
  return found;
}

const WITH_SOUND = "A report with sound: asr evaluate --model ... --data ... --report report.html --embed-audio";

/** Where the sound of an utterance can be played from: {address} or {why: text}. */
async function soundOf(group, groupNumber, index) {
  const audio = group.audio[index];
  if (typeof audio === "string") return { address: audio };
  if (audio === 1) {
    const element = await detailsElement(`audio-${groupNumber}-${index}`);
    return { address: URL.createObjectURL(new Blob([bytesOf(element.textContent)], { type: element.type })) };
  }
  return {
    why: group.detailed
      ? `The audio is in the shards, or there is none. ${WITH_SOUND}`
      : `Only the texts are known here: neither audio nor what a model saw of it. ${WITH_SOUND}`,
  };
}
