// Conversations and options, kept in this browser.

const CONVERSATIONS = "rocmforge.conversations";
const OPTIONS = "rocmforge.options";
const LONGEST_TITLE = 60;

function load(name, otherwise) {
  try {
    return JSON.parse(localStorage.getItem(name)) ?? otherwise;
  } catch {
    return otherwise;
  }
}

/** Keep a value; where the browser keeps no more, it is only in this tab. */
function keep(name, value) {
  try {
    localStorage.setItem(name, JSON.stringify(value, (field, each) => (field === "tokens" && Array.isArray(each) ? undefined : each)));
  } catch {
    // Storage is full or switched off.
  }
}

/** Newest first: {id, title, messages}. Probabilities of tokens (`tokens`) are not kept. */
export const conversations = load(CONVERSATIONS, []);
export const options = load(OPTIONS, {});

export const keepConversations = () => keep(CONVERSATIONS, conversations);
export const keepOptions = () => keep(OPTIONS, options);

/** Return a conversation without messages; it is kept once it has one. */
export const newConversation = () => ({ id: crypto.randomUUID?.() ?? String(Date.now()), title: "New chat", messages: [] });

/** Put a conversation first, under the beginning of its first message. */
export function touch(conversation) {
  const first = conversation.messages.find((message) => message.role === "user");
  if (first) conversation.title = first.content.trim().slice(0, LONGEST_TITLE) || "New chat";
  remove(conversation);
  conversations.unshift(conversation);
  keepConversations();
}

export function remove(conversation) {
  const place = conversations.findIndex((each) => each.id === conversation.id);
  if (place >= 0) conversations.splice(place, 1);
  keepConversations();
}
