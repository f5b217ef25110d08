"""Converts a request to the text and the tokens of its prompt."""

from collections.abc import Sequence
from typing import Any

from api.client import Client
from api.fill_in import fill_in_tokens
from api.schemas import Conversation, FillIn, GenerateRequest, Parts, Prompt
from api.served_models import ServedModel
from runtime.chat import ChatTemplate
from runtime.tokenizer import Tokenizer, Watch


def prompt_tokens(
    prompt: Prompt, wanted: GenerateRequest, model: ServedModel, client: Client
) -> Sequence[int]:
    """The tokens of one of a request's prompts.

    Raises ContextLengthExceeded as soon as it is certain that it cannot fit, ClientGone where
    the client has disconnected, InvalidRequest if the template refuses the messages, and
    InfillUnsupported if the model has no tokens for a gap.
    """

    def watch(tokens: int) -> None:
        client.expect_waiting()
        answered = wanted.max_tokens > 0
        model.engine.limits.check_prompt_length(tokens, at_least=True, answered=answered)

    if isinstance(prompt, Conversation):
        template = ChatTemplate(model.tokenizer, source=model.chat_template)
        return template.encode(
            _messages(prompt, template, client),
            add_generation_prompt=prompt.add_generation_prompt,
            continue_final=prompt.continue_final,
            variables=prompt.variables,
            watch=watch,
        )
    if isinstance(prompt, str):
        return model.tokenizer.encode(
            prompt,
            add_special=wanted.add_special,
            parse_special=wanted.parse_special,
            watch=watch,
        )
    if isinstance(prompt, FillIn):
        return fill_in_tokens(prompt, wanted.max_tokens, model, watch)
    return part_tokens(prompt, model.tokenizer, wanted, watch)


def part_tokens(
    parts: Parts, tokenizer: Tokenizer, wanted: GenerateRequest, watch: Watch
) -> Sequence[int]:
    """The tokens of a prompt in parts; BOS and EOS are added to a text at its beginning only."""
    tokens: list[int] = []

    def watch_all(further: int) -> None:
        watch(len(tokens) + further)

    for place, part in enumerate(parts):
        if isinstance(part, int):
            tokens.append(part)
            continue
        tokens += tokenizer.encode(
            part,
            add_special=wanted.add_special and place == 0,
            parse_special=wanted.parse_special,
            watch=watch_all,
        )
    return tokens


def prompt_text(conversation: Conversation, model: ServedModel, client: Client) -> str:
    """The text of a conversation's prompt. Raises InvalidRequest and ClientGone, as above."""
    template = ChatTemplate(model.tokenizer, source=model.chat_template)
    text = template.render(
        _messages(conversation, template, client),
        add_generation_prompt=conversation.add_generation_prompt,
        continue_final=conversation.continue_final,
        variables=conversation.variables,
        watch=client.expect_waiting,
    )
    return str.__str__(text)


def _messages(
    conversation: Conversation, template: ChatTemplate, client: Client
) -> Sequence[dict[str, Any]]:
    """Return the messages, with developer as system if the template does not support developer.

    `developer` is OpenAI's newer name of `system`.
    """
    messages, variables = conversation.messages, conversation.variables
    if all(message["role"] != "developer" for message in messages):
        return messages
    if template.shows("developer", variables=variables, watch=client.expect_waiting):
        return messages
    return [
        {**message, "role": "system"} if message["role"] == "developer" else message
        for message in messages
    ]
