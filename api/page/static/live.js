// The server's state: its models, its queue and its pages, renewed while the page is visible.

import { byId, element } from "./dom.js";
import { read } from "./server.js";
import { options, keepOptions } from "./store.js";

const INTERVAL_MS = 2000;
const MODELS_EVERY = 5; // intervals
let models = [];
let intervals = 0;

/** Show the state, now and every two seconds. */
export async function follow() {
  byId("model").addEventListener("change", () => {
    options.model = byId("model").value;
    keepOptions();
  });
  document.addEventListener("key", listModels);
  document.addEventListener("visibilitychange", renew);
  setInterval(renew, INTERVAL_MS);
  await Promise.all([listModels(), renew()]);
}

async function listModels() {
  const found = await read("/v1/models").catch(() => ({ data: [] }));
  models = found.data.filter((model) => (model.task ?? "generate") === "generate");
  const select = byId("model");
  const names = models.length ? models.map(({ id }) => id) : [""];
  // A list that a person has open closes when it is changed.
  if (names.join("\n") === [...select.options].map(({ value }) => value).join("\n")) return;
  const chosen = options.model ?? select.value;
  select.replaceChildren(...names.map((name) => element("option", { value: name }, name || "no model")));
  if (names.includes(chosen)) select.value = chosen;
}

async function renew() {
  if (document.hidden) return;
  let health;
  try {
    health = await read("/health");
  } catch {
    pulse("bad", "not reached");
    return;
  }
  const { checks } = health;
  if (!checks.engine.model_loaded) pulse("", "loading");
  else if (health.status !== "healthy") pulse("bad", "unhealthy");
  else pulse("good", checks.requests.active ? `${checks.requests.active} running` : "ready");
  intervals += 1;
  if (intervals % MODELS_EVERY === 0 || (checks.engine.model_loaded && !models.length)) await listModels();
  byId("live").replaceChildren(...rows(checks).flatMap(([name, value]) =>
    [element("dt", {}, name), element("dd", {}, value)]));
}

function pulse(kind, text) {
  byId("pulse").className = kind;
  byId("pulse").textContent = text;
}

function* rows({ model, requests, cache, gpu, engine }) {
  const chosen = models.find(({ id }) => id === byId("model").value);
  yield ["State", engine.running ? "running" : engine.reason ?? "not running"];
  if (chosen) {
    const { root = chosen.id, id } = chosen;
    const version = model?.name === root && model.version !== null ? `, version ${model.version}` : "";
    yield ["Model", `${root}${version}`];
    if (root !== id) yield ["Alias", id];
    if (chosen.status) yield ["In memory", chosen.status.value];
  }
  if (chosen) yield ["Context", `${chosen.max_model_len.toLocaleString()} tokens`];
  if (chosen?.quantization) yield ["Quantization", chosen.quantization];
  if (chosen) yield ["KL from exact", typeof chosen.kl_divergence === "number" ? `${chosen.kl_divergence.toPrecision(2)} nats a token` : "not measured"];
  if (requests) yield ["Running", String(requests.active)];
  if (requests) yield ["Queued", String(requests.queued)];
  if (cache) {
    const { pages_used: used, pages_total: total } = cache;
    yield ["Pages", element("span", {}, `${used.toLocaleString()} of ${total.toLocaleString()}`,
      element("meter", { value: used, max: total, "aria-label": "Pages of the cache in use" }))];
  }
  yield ["GPU", gpu.available ? `${gpu.memory.used_mb.toLocaleString()} MiB used` : "none: CPU"];
}
