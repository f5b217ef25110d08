// The fields of a request that a person sets, with the ranges of the server's own document.

import { byId, element } from "./dom.js";
import { key, read } from "./server.js";
import { keepOptions, options } from "./store.js";

const NUMBERS = {
  temperature: "Temperature",
  max_tokens: "Most tokens",
  top_p: "Top-p",
  top_k: "Top-k",
  min_p: "Min-p",
  repetition_penalty: "Repetition penalty",
  presence_penalty: "Presence penalty",
  frequency_penalty: "Frequency penalty",
  seed: "Seed",
};
const SHOWN_PROBABILITIES = 5;
const LARGEST_SHOWN = 1e6;

/** Make the form, and keep what is written into it. */
export async function makeForm() {
  byId("key").value = key.get();
  byId("key").addEventListener("change", (event) => {
    key.set(event.target.value.trim());
    document.dispatchEvent(new Event("key"));
  });
  const schemas = await read("/openapi.json").then((found) => found.components.schemas, () => ({}));
  const fields = schemas.ChatBody?.properties ?? {};
  byId("sampling").append(...Object.keys(NUMBERS).map((name) => number(name, fields[name] ?? {})), reasoning());
  for (const field of byId("options").elements) {
    if (!field.name) continue;
    field.value = options[field.name] ?? "";
    field.addEventListener("input", () => {
      options[field.name] = field.value;
      field.removeAttribute("aria-invalid");
      keepOptions();
    });
  }
}

function number(name, { minimum, maximum, type, description }) {
  const whole = type?.includes("integer") || name === "max_tokens";
  const input = element("input", { type: "number", name, step: whole ? 1 : "any", placeholder: "default" });
  if (minimum !== undefined) input.min = minimum;
  if (maximum !== undefined && maximum < LARGEST_SHOWN) input.max = maximum;
  if (description) input.title = description;
  return element("label", {}, NUMBERS[name], input);
}

function reasoning() {
  const choices = [["", "default"], ["true", "on"], ["false", "off"]].map(([value, text]) =>
    element("option", { value }, text));
  return element("label", {}, "Reasoning", element("select", { name: "reasoning" }, ...choices));
}

/** Return the body of a request. Throws for a field that cannot be read, which gets the focus. */
export function body(model, messages) {
  const made = {
    model: model || undefined,
    messages: [...(options.system ? [{ role: "system", content: options.system }] : []), ...messages],
    stream: true,
    stream_options: { include_usage: true },
    logprobs: true,
    top_logprobs: SHOWN_PROBABILITIES,
  };
  for (const name of Object.keys(NUMBERS)) {
    if (byId("options").elements[name]?.validity.badInput) refuse(name, `${NUMBERS[name]} is no number`);
    if (options[name]) made[name] = Number(options[name]);
  }
  if (options.reasoning) made.enable_thinking = options.reasoning === "true";
  const schema = json("schema", "The JSON schema");
  if (schema) made.response_format = { type: "json_schema", json_schema: { name: "answer", schema } };
  const tools = json("tools", "The tools");
  if (tools) made.tools = [tools].flat().map((tool) => (tool.function ? tool : { type: "function", function: tool }));
  return made;
}

function json(name, title) {
  if (!options[name]?.trim()) return null;
  try {
    return JSON.parse(options[name]);
  } catch (error) {
    return refuse(name, `${title} cannot be read as JSON: ${error.message}`);
  }
}

function refuse(name, sentence) {
  byId("options").elements[name].setAttribute("aria-invalid", "true");
  throw new Error(sentence);
}
