"""From events to effects: what is decided, committed and sent, and what nodes answer."""
