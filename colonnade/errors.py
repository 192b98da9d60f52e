"""Every error this project raises on purpose.

Exception
├── ApiError(status, sentence)       whoever sent the request is answered with it
│   ├── Invalid 400 · Unauthorized 401 · Forbidden 403 · NotFound 404 · Conflict 409
│   ├── ProviderFailed 500 · Unsupported 501 · Busy 503
├── Later(sentence)                  the loop: it may work if tried again
└── Broken(sentence, help)           the loop: it will not work until a person or a request changes something
"""


class ApiError(Exception):
    """A request that is answered with ``status`` and one sentence for whoever sent it."""

    status = 500

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence


class Invalid(ApiError):
    """The request breaks a rule; the sentence names the field."""

    status = 400


class Unauthorized(ApiError):
    """No token, or one that is not valid."""

    status = 401


class Forbidden(ApiError):
    """The caller may not do this."""

    status = 403


class NotFound(ApiError):
    """There is no such object, or not any more."""

    status = 404


class Conflict(ApiError):
    """Another object, or this one's own state, stands in the way."""

    status = 409


class ProviderFailed(ApiError):
    """A third party's provider did not do what it was asked; the sentence is the provider's."""

    status = 500


class Unsupported(ApiError):
    """The API knows the option; this deployment has no effect for it."""

    status = 501


class Busy(ApiError):
    """The service cannot answer now (database away); trying again is right."""

    status = 503


class Later(Exception):
    """It may work if tried again: timeouts, 5xx, quota, not there yet. The text is for the user."""


class Broken(Exception):
    """It will not work until a person or a request changes something; ``help`` says what would."""

    def __init__(self, sentence: str, help: str = "") -> None:
        super().__init__(sentence)
        self.help = help
