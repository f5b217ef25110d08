// One answer as it arrives.

import { chat } from "./server.js";

/** Fill a message with the answer to a request; `changed` is called after each piece. */
export async function receive(message, body, signal, changed) {
  const begun = performance.now();
  let first = null;
  let last = begun;
  let count = 0;
  message.figures = {};
  message.tokens = [];
  const measure = () => {
    if (first === null) return;
    const tokens = message.figures.tokens ?? count;
    message.figures.first = (first - begun) / 1000;
    if (count > 1 && last > first) message.figures.rate = ((tokens - 1) * 1000) / (last - first);
  };
  try {
    for await (const chunk of chat(body, signal)) {
      const [choice] = chunk.choices;
      if (chunk.usage) message.figures.tokens = chunk.usage.completion_tokens;
      if (!choice) continue;
      const { delta } = choice;
      if (delta.content || delta.reasoning_content || delta.tool_calls) {
        last = performance.now();
        first ??= last;
        count += 1;
      }
      message.content += delta.content ?? "";
      if (delta.reasoning_content) message.reasoning = (message.reasoning ?? "") + delta.reasoning_content;
      for (const call of delta.tool_calls ?? []) addCall(message, call);
      message.tokens.push(...(choice.logprobs?.content ?? []));
      if (choice.finish_reason) message.figures.reason = choice.finish_reason;
      measure();
      changed();
    }
  } catch (error) {
    if (error.name !== "AbortError") throw error;
    message.figures.reason = "stopped";
  } finally {
    message.figures.tokens ??= message.tokens.length || count;
    measure();
  }
}

function addCall(message, { index, id, function: called }) {
  message.tool_calls ??= [];
  message.tool_calls[index] ??= { id, type: "function", function: { name: "", arguments: "" } };
  const call = message.tool_calls[index].function;
  call.name += called?.name ?? "";
  call.arguments += called?.arguments ?? "";
}
