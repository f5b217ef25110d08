"""From what a request asks for to the text and the tokens of its prompt."""

from collections.abc import Sequence

from api.client import Client
from api.holder import ServedModel
from api.schemas import Conversation, GenerateRequest
from runtime.chat import ChatTemplate


def prompt_tokens(wanted: GenerateRequest, model: ServedModel, client: Client) -> Sequence[int]:
    """The tokens of a prompt.

    Raises ContextLengthExceeded as soon as it is certain that it cannot fit, ClientGone where
    nobody waits any more, and InvalidRequest where the template refuses the messages.
    """

    def watch(tokens: int) -> None:
        client.expect_waiting()
        model.engine.check_prompt_length(tokens, at_least=True)

    prompt = wanted.prompt
    if isinstance(prompt, Conversation):
        template = ChatTemplate(model.tokenizer)
        return template.encode(prompt.messages, variables=prompt.variables, watch=watch)
    if isinstance(prompt, str):
        return model.tokenizer.encode(prompt, parse_special=wanted.parse_special, watch=watch)
    return prompt


def prompt_text(conversation: Conversation, model: ServedModel, client: Client) -> str:
    """The text of a conversation's prompt. Raises InvalidRequest and ClientGone, as above."""
    text = ChatTemplate(model.tokenizer).render(
        conversation.messages, variables=conversation.variables, watch=client.expect_waiting
    )
    return str.__str__(text)
