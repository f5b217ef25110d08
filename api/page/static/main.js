// The page: one conversation, and what a person does with it.

import { receive } from "./answer.js";
import { announce, button, byId, element } from "./dom.js";
import { follow } from "./live.js";
import { MessageView } from "./messages.js";
import { body, makeForm } from "./options.js";
import { conversations, newConversation, remove, touch } from "./store.js";

const NARROW = matchMedia("(max-width: 900px)");
let conversation = conversations[0] ?? newConversation();
let running = null; // the AbortController of the answer that arrives

const actions = {
  regenerate: (message) => answerFrom(conversation.messages.indexOf(message)),
  edit(message, text) {
    const place = conversation.messages.indexOf(message);
    message.content = text;
    answerFrom(place + 1);
  },
  sendAgain: () => answerFrom(conversation.messages.length),
  isLast: (message) => message === conversation.messages.at(-1),
  answerCalls(message, results) {
    results.forEach((content, place) => {
      const call = message.tool_calls[place];
      conversation.messages.push({ role: "tool", tool_call_id: call.id, name: call.function.name, content });
    });
    answerFrom(conversation.messages.length);
  },
};

/** Drop the messages from a place on, and ask for the next. */
async function answerFrom(place) {
  if (running) return;
  fail("");
  let wanted;
  try {
    wanted = body(byId("model").value, conversation.messages.slice(0, place).map(sent));
  } catch (error) {
    touch(conversation);
    show();
    fail(error.message);
    return;
  }
  const own = conversation;
  own.messages.length = place;
  const message = { role: "assistant", content: "" };
  own.messages.push(message);
  touch(own);
  show();
  const view = views.at(-1);
  running = new AbortController();
  showRunning(view);
  let frame = 0;
  const draw = () => {
    frame = 0;
    following(() => view.update(true));
  };
  try {
    await receive(message, wanted, running.signal, () => { frame ||= requestAnimationFrame(draw); });
    announce("The answer is complete.");
  } catch (error) {
    fail(error.message);
  } finally {
    cancelAnimationFrame(frame);
    running = null;
    if (!message.content && !message.reasoning && !message.tool_calls) own.messages.pop();
    touch(own);
    show();
    showRunning(null);
  }
}

/** Return a message as the server takes it. */
function sent({ role, content, tool_calls, tool_call_id, name }) {
  return { role, content, ...(tool_calls && { tool_calls }), ...(tool_call_id && { tool_call_id, name }) };
}

let views = [];

function show() {
  if (views.length && views[0].of !== conversation) views = [];
  const { messages } = conversation;
  // A view with open fields or tokens stays; the last two may have changed.
  views = messages.map((message, place) => {
    const known = views.find((view) => view.message === message);
    if (!known || place >= messages.length - 2) known?.update();
    return known ?? Object.assign(new MessageView(message, actions), { of: conversation });
  });
  following(() => byId("messages").replaceChildren(...views.map((view) => view.root)));
  byId("empty").hidden = messages.length > 0;
  document.title = messages.length ? `${conversation.title} – ROCmForge` : "ROCmForge";
  showList();
}

function showList() {
  byId("conversations").querySelector("ul").replaceChildren(...conversations.map((each) => {
    const isCurrent = each.id === conversation.id;
    const open = button(each.title, () => select(each), { className: "open" });
    if (isCurrent) open.setAttribute("aria-current", "true");
    return element("li", { className: isCurrent ? "current" : "" }, open,
      button("×", () => drop(each), { className: "remove", "aria-label": `Delete ${each.title}` }));
  }));
}

function select(chosen) {
  if (running) running.abort();
  conversation = chosen;
  fail("");
  show();
  if (NARROW.matches) setOpen("conversations", false);
  byId("scroll").scrollTop = byId("scroll").scrollHeight;
  byId("text").focus();
}

function drop(each) {
  remove(each);
  if (each.id === conversation.id) select(conversations[0] ?? newConversation());
  else showList();
}

function showRunning(view) {
  byId("send").hidden = view !== null;
  byId("stop").hidden = view === null;
  view?.update(true);
}

function fail(sentence) {
  byId("error").textContent = sentence;
  byId("error").hidden = !sentence;
}

/** Change what is shown, and stay at the end if it was there. */
function following(change) {
  const scroll = byId("scroll");
  const atEnd = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 80;
  change();
  if (atEnd) scroll.scrollTop = scroll.scrollHeight;
}

function setOpen(name, open) {
  byId(name).classList.toggle("closed", !open);
  byId(`toggle-${name}`).setAttribute("aria-expanded", String(open));
}

const isOpen = (name) => !byId(name).classList.contains("closed");

for (const name of ["conversations", "settings"]) {
  const other = name === "settings" ? "conversations" : "settings";
  setOpen(name, !NARROW.matches);
  byId(`toggle-${name}`).addEventListener("click", () => {
    setOpen(name, !isOpen(name));
    if (NARROW.matches && isOpen(name)) setOpen(other, false);
  });
}
NARROW.addEventListener("change", () => ["conversations", "settings"].forEach((name) => setOpen(name, !NARROW.matches)));
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  const open = NARROW.matches && ["conversations", "settings"].find(isOpen);
  if (open) {
    setOpen(open, false);
    byId(`toggle-${open}`).focus();
  } else running?.abort();
});

byId("new").addEventListener("click", () => select(newConversation()));
byId("stop").addEventListener("click", () => running?.abort());
byId("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = byId("text").value;
  if (!text.trim() || running) return;
  byId("text").value = "";
  conversation.messages.push({ role: "user", content: text });
  byId("scroll").scrollTop = byId("scroll").scrollHeight;
  answerFrom(conversation.messages.length);
});
byId("text").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  byId("composer").requestSubmit();
});

show();
await Promise.all([makeForm(), follow()]);
document.body.dataset.ready = "true";
byId("text").focus();
