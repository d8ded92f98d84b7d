// Elements and numbers. Texts only ever become text nodes: nothing in this file parses HTML.

const $ = (id) => document.getElementById(id);

/** An element; `on...` attributes are listeners, `css` holds properties (the policy forbids style attributes). */
function h(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
function s(tag, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "css") for (const [key, text] of Object.entries(value)) element.style.setProperty(key, text);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

const percent = (rate, digits = 2) => (rate === null ? "–" : Number.isFinite(rate) ? (100 * rate).toFixed(digits) : "∞");
const whole = (number) => number.toLocaleString("en");
const clock = (seconds) => (seconds === null ? "–" : `${seconds.toFixed(seconds < 10 ? 2 : 1)} s`);
/** `text` in at most `most` letters: what tells names apart stands at their ends as often as at their beginnings. */
function shortened(text, most) {
  const letters = [...text];
  if (letters.length <= most) return text;
  const head = Math.floor((most - 1) / 3);
  return `${letters.slice(0, head).join("")}…${letters.slice(head + 1 - most).join("")}`;
}
const plural = (number, word) => `${whole(number)} ${word}${number === 1 ? "" : "s"}`;
