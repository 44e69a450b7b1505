"""From events to effects: what is decided, committed and sent, and how nodes answer."""
