"""How a request fails: a code that programs match and a text that people read."""

TEXT_CHARS_MAX = 4096


class Failure(Exception):
    """A request ends with this code and text; the child itself is fine."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text if len(text) <= TEXT_CHARS_MAX else text[:TEXT_CHARS_MAX] + " ..."
