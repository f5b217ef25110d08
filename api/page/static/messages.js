// Shows the messages of a conversation.

import { button, element } from "./dom.js";
import { tokenView } from "./probabilities.js";
import { shown } from "./text.js";

const NAMES = { user: "You", assistant: "Model", tool: "Result of a tool" };

/** A message on the page. `actions` has what a person can do with it, by name. */
export class MessageView {
  constructor(message, actions) {
    this.message = message;
    this.actions = actions;
    this.content = element("div", { className: "content" });
    this.foot = element("div", { className: "foot" });
    this.extra = element("div", {});
    this.showsTokens = false;
    this.root = element("li", { className: `message ${message.role}` },
      element("h3", {}, message.role === "tool" ? `Result of ${message.name}` : NAMES[message.role]),
      this.extra, this.content, this.foot);
    this.update();
  }

  /** Show the message as it is now; `running` while its answer arrives. */
  update(running = false) {
    const { message } = this;
    this.root.classList.toggle("waiting", running && !message.reasoning);
    this.root.ariaBusy = String(running);
    this.content.replaceChildren(
      ...(this.showsTokens ? [tokenView(message.tokens)] : shown(message.content ?? "")),
      ...(running ? [] : this.calls()));
    this.content.hidden = !running && !this.content.hasChildNodes();
    this.showReasoning();
    this.foot.replaceChildren(...(running ? [] : this.buttons()), this.figures());
  }

  showReasoning() {
    if (!this.message.reasoning) return;
    if (!this.thoughts) {
      this.thoughts = element("div", { className: "text" });
      this.extra.append(element("details", {}, element("summary", {}, "Reasoning"), this.thoughts));
    }
    this.thoughts.textContent = this.message.reasoning.trim();
  }

  buttons() {
    const { message, actions } = this;
    const copy = button("Copy", async () => {
      await navigator.clipboard.writeText(message.content ?? "");
      copy.textContent = "Copied";
    });
    if (message.role === "user") {
      const again = actions.isLast(message) ? [button("Send again", actions.sendAgain)] : [];
      return [...again, button("Edit", () => this.edit()), copy];
    }
    if (message.role === "tool") return [];
    const made = [copy, button("Regenerate", () => actions.regenerate(message))];
    if (message.tokens?.length) {
      made.push(button("Probabilities", () => {
        this.showsTokens = !this.showsTokens;
        this.update();
        this.foot.querySelector("[aria-pressed]").focus();
      }, { "aria-pressed": String(this.showsTokens) }));
    }
    return made;
  }

  figures() {
    const { figures } = this.message;
    const parts = [];
    if (figures?.tokens) parts.push(`${figures.tokens} tokens`);
    if (figures?.rate) parts.push(`${figures.rate.toFixed(1)} tokens/s`);
    if (figures?.first) parts.push(`first after ${figures.first.toFixed(2)} s`);
    if (figures?.reason === "length") parts.push("cut at the limit");
    if (figures?.reason === "stopped") parts.push("stopped");
    return element("span", { className: "figures" }, parts.join(" · "));
  }

  edit() {
    const field = element("textarea", { value: this.message.content, rows: 3, "aria-label": "Message" });
    const form = element("form", {}, field, element("div", { className: "foot" },
      element("button", { type: "submit", className: "primary" }, "Send"),
      button("Cancel", () => this.update())));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.actions.edit(this.message, field.value);
    });
    this.content.replaceChildren(form);
    this.foot.replaceChildren();
    field.focus();
  }

  /** Return the calls of tools; those without results can be answered. */
  calls() {
    const { message, actions } = this;
    if (!message.tool_calls?.length) return [];
    const open = actions.isLast(message);
    const fields = message.tool_calls.map(({ function: called }) => element("div", { className: "call" },
      element("strong", {}, called.name),
      element("pre", { tabIndex: 0 }, pretty(called.arguments)),
      open ? element("label", {}, "Result", element("textarea", { rows: 2, required: true })) : null));
    if (!open) return fields;
    const form = element("form", {}, ...fields,
      element("div", { className: "foot" }, element("button", { type: "submit", className: "primary" }, "Send results")));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      actions.answerCalls(message, [...form.querySelectorAll("textarea")].map((field) => field.value));
    });
    return [form];
  }
}

function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}
