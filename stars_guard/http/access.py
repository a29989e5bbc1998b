"""How a server is reached: time limits, retries, the key. Settings alone; nothing here needs httpx."""

from __future__ import annotations

import os
import ssl

from pydantic import ConfigDict, Field, SecretStr

from stars_guard.errors import ConfigurationError
from stars_guard.settings import Settings


class HttpAccess(Settings):
    """How a server is called."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    timeout: float = Field(default=10.0, gt=0)
    """Most seconds for one HTTP call, from connecting to the last byte of the answer."""
    retries: int = Field(default=2, ge=0)
    """Most further calls after one that was lost before an answer, or was answered 429, 502, 503 or 504."""
    backoff: float = Field(default=0.1, ge=0)
    """Seconds before the first retry, doubled for each further one; ``Retry-After`` may ask for more."""
    max_parallel: int = Field(default=4, ge=1)
    """Most HTTP calls at the same time, and most connections."""
    max_answer_bytes: int = Field(default=8 * 2**20, ge=1)
    """Longest answer that is read."""
    api_key: SecretStr | None = None
    """Sent with every call."""
    api_key_env: str | None = None
    """Environment variable with the key, read once; for when ``api_key`` is not given."""
    api_key_header: str = Field(default="Authorization", pattern=r"^[A-Za-z0-9-]+$")
    """Header of the key, which ``Authorization`` carries after ``Bearer``, any other header alone."""
    verify: bool | ssl.SSLContext = True
    """Whether certificates are checked, or the context that does so."""

    def headers(self, *, has_user: bool) -> dict[str, str]:
        """What goes with every call that sends JSON; ``has_user`` says that the URL names one.

        Raises:
            ConfigurationError: the key cannot be had or sent, or there are two ways to say who calls.
        """
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        key = self._key()
        if key is None:
            return headers
        if has_user:
            raise ConfigurationError("both an API key and a user in the URL were given; keep one of them")
        if not (key.isascii() and key.isprintable() and key.strip() == key):
            raise ConfigurationError(
                "the API key has characters that a header cannot carry, such as a line end"
            )
        bearer = self.api_key_header.lower() == "authorization"
        return {**headers, self.api_key_header: f"Bearer {key}" if bearer else key}

    def _key(self) -> str | None:
        if self.api_key is not None:
            return self.api_key.get_secret_value()
        if self.api_key_env is None:
            return None
        key = os.environ.get(self.api_key_env)
        if not key:
            raise ConfigurationError(f"the environment variable {self.api_key_env} holds no API key; set it")
        return key
