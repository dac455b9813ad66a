"""A chat-completions server in a few hundred lines: SmolLM2 under logitchain, over HTTP."""
