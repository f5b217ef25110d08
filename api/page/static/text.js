// Shows a text of the model: plain text, inline code, and blocks of code with a button to copy.

import { button, element } from "./dom.js";

const FENCE = /^ {0,3}(`{3,}|~{3,})\s*([^`\s]*)/;
const INLINE_CODE = /(`[^`\n]+`)/;

/** Return the parts of a text: {text} and {code, language}. A block without end goes to the end. */
export function parts(text) {
  const found = [];
  let lines = [];
  let fence = null;
  const close = () => {
    const joined = lines.join("\n");
    if (fence) found.push({ code: joined, language: fence.language });
    else if (joined.trim()) found.push({ text: joined.replace(/^\n+|\n+$/g, "") });
    lines = [];
  };
  for (const line of text.split("\n")) {
    const match = FENCE.exec(line);
    if (fence && match && match[1].startsWith(fence.mark) && !match[2]) {
      close();
      fence = null;
    } else if (!fence && match) {
      close();
      fence = { mark: match[1], language: match[2] };
    } else {
      lines.push(line);
    }
  }
  if (lines.length || fence) close();
  return found;
}

/** Return the elements of a text. */
export function shown(text) {
  return parts(text).map((part) =>
    part.code === undefined ? paragraph(part.text) : block(part.code, part.language));
}

function paragraph(text) {
  const pieces = text.split(INLINE_CODE).map((piece, place) =>
    place % 2 ? element("code", {}, piece.slice(1, -1)) : piece);
  return element("div", { className: "text" }, ...pieces);
}

function block(code, language) {
  const copy = button("Copy", async () => {
    await navigator.clipboard.writeText(code);
    copy.textContent = "Copied";
  });
  return element("figure", { className: "code" },
    element("figcaption", {}, element("span", {}, language || "code"), copy),
    element("pre", { tabIndex: 0 }, element("code", {}, code)));
}
