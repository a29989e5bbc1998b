"""A server's address: what is sent there, and what of it may be shown."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import SplitResult, unquote, urlsplit

import httpx

from stars_guard.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Address:
    """A URL taken apart.

    Attributes:
        url: without user and password.
        shown: without user, password and query, which may all be secret.
        user: name and password, if the URL has them.
    """

    url: str
    shown: str
    user: tuple[str, str] | None

    @classmethod
    def of(cls, url: str, example: str) -> Address:
        """The address that ``url`` names.

        Raises:
            ConfigurationError: it names none; ``example`` shows how one looks.
        """
        parts = _parts(url)
        if parts is None:
            # The URL is not quoted: it may hold a password.
            raise ConfigurationError(f"url must be a whole one, such as {example}")
        place = parts.netloc.rpartition("@")[2]
        user = (unquote(parts.username), unquote(parts.password or "")) if parts.username else None
        shown = f"{parts.scheme}://{place}{parts.path}"
        return cls(parts._replace(netloc=place).geturl(), shown, user)


def _parts(url: str) -> SplitResult | None:
    with suppress(ValueError, httpx.InvalidURL):
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and httpx.URL(url).host and parts.port != 0:
            return parts
    return None
