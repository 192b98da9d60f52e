"""The one exception that becomes an answer of the agent's API."""


class Refused(Exception):
    """The request is answered with ``status`` and two sentences: what is wrong, and what would help."""

    def __init__(self, status: int, sentence: str, help: str = "") -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
        self.help = help
