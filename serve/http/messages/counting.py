"""Counts a prompt's tokens without asking a model."""

from deployments import estimates
from deployments.contract import ChatRequest

# What an image has at most with Anthropic's models; larger ones are scaled down.
# https://docs.anthropic.com/en/docs/build-with-claude/vision#calculate-image-costs
_IMAGE_TOKENS = 1600


def input_tokens(request: ChatRequest) -> int:
    """About how many tokens the messages, the tools and the images of a request have."""
    images = sum(
        part["type"] == "image_url"
        for message in request.messages
        if isinstance(content := message.get("content"), list)
        for part in content
    )
    return estimates.prompt_tokens(request) + images * _IMAGE_TOKENS
