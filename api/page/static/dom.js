// Makes elements. Text only ever becomes a text node.

/** Return an element with properties, attributes (names with a dash, and role) and children. */
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "role") made.setAttribute(name, value);
    else made[name] = value;
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

/** Return a button that does something. */
export function button(text, onClick, properties = {}) {
  const made = element("button", { type: "button", className: "plain", ...properties }, text);
  made.addEventListener("click", onClick);
  return made;
}

/** Return the element with this id. */
export const byId = (id) => document.getElementById(id);

/** Say a text to screen readers. */
export function announce(text) {
  byId("announced").textContent = text;
}
