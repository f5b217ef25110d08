// The tokens of an answer, each with the likeliest ones in its place.

import { announce, byId, element } from "./dom.js";

const LIMITS = [0.05, 0.2, 0.5, 0.9];
/** Probabilities that the colours begin at. */
const percent = (logprob) => `${(100 * Math.exp(logprob)).toFixed(1)} %`;
const visible = (token) => token.replaceAll("\n", "⏎").replaceAll("\t", "⇥") || "∅";

/** Return an element with the tokens; the pointer and the arrow keys choose the one explained. */
export function tokenView(tokens) {
  const view = element("div", {
    className: "tokens", tabIndex: 0, role: "group",
    "aria-label": "Tokens and their probabilities; left and right arrows move between them",
  });
  const spans = tokens.map(({ token, logprob }) => {
    const level = LIMITS.filter((limit) => Math.exp(logprob) >= limit).length;
    return element("span", { className: `token p${level}` }, token);
  });
  view.append(...spans);
  let active = -1;
  const choose = (place) => {
    spans[active]?.classList.remove("active");
    active = place;
    if (place < 0) return hide();
    spans[place].classList.add("active");
    explain(tokens[place], spans[place]);
    return undefined;
  };
  view.addEventListener("pointerover", (event) => choose(spans.indexOf(event.target)));
  view.addEventListener("pointerleave", () => choose(-1));
  view.addEventListener("blur", () => choose(-1));
  view.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (event.key === "Escape") choose(-1);
    if (!step || !spans.length) return;
    event.preventDefault();
    choose(Math.min(Math.max(active + step, 0), spans.length - 1));
    const { token, logprob } = tokens[active];
    announce(`${visible(token)}: ${percent(logprob)}`);
  });
  return view;
}

function explain({ token, logprob, top_logprobs: top }, span) {
  const rows = top.map((each) => [each.token, each.logprob]);
  if (!top.some((each) => each.token === token && each.logprob === logprob)) rows.push([token, logprob]);
  const table = element("table", {}, ...rows.map(([name, value]) =>
    element("tr", { className: name === token ? "chosen" : "" },
      element("td", {}, visible(name)), element("td", {}, percent(value)))));
  const shown = byId("candidates");
  shown.replaceChildren(table);
  shown.hidden = false;
  const place = span.getBoundingClientRect();
  const left = Math.min(place.left, innerWidth - shown.offsetWidth - 8);
  const below = place.bottom + 6;
  const top_ = below + shown.offsetHeight > innerHeight ? place.top - shown.offsetHeight - 6 : below;
  shown.style.left = `${Math.max(8, left)}px`;
  shown.style.top = `${top_}px`;
}

function hide() {
  byId("candidates").hidden = true;
}
