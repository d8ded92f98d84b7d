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

const percent = (rate, digits = 2) => (Number.isFinite(rate) ? (100 * rate).toFixed(digits) : "∞");
const whole = (number) => number.toLocaleString("en");
const clock = (seconds) => (seconds === null ? "–" : `${seconds.toFixed(seconds < 10 ? 2 : 1)} s`);
const plural = (number, word) => `${whole(number)} ${word}${number === 1 ? "" : "s"}`;
