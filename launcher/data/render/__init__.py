"""From a conversation to tokens, and which of them carry loss: chat templates, spans, masks."""
