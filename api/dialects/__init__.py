"""Other servers' APIs, each over the same internal request as OpenAI's chat completions."""
