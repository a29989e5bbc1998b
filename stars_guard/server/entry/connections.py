"""How many connections there are, and which one goes when there are too many."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Protocol

from pydantic import Field

from stars_guard.server.entry.framing import HeadLimits
from stars_guard.server.telemetry.closing import Closing

_NETWORK_BITS = 64


class ConnectionLimits(HeadLimits):
    """How many connections are held, and how long each may keep the server waiting."""

    connections: int = Field(default=1000, ge=1)
    """Most connections at the same time; fewer where the process may open fewer files."""
    connections_per_address: int = Field(default=256, ge=1)
    """Most of them from one client address, or one IPv6 network of 64 bits; a proxy is one address."""
    head_seconds: float = Field(default=10.0, gt=0)
    """Most seconds until a request's line and headers have come."""
    idle_seconds: float = Field(default=75.0, gt=0)
    """Most seconds that a connection is kept for a next request."""
    write_seconds: float = Field(default=30.0, gt=0)
    """Most seconds that a client which reads too slowly holds what was written for it."""


class Evictable(Protocol):
    """A connection, as far as it takes room."""

    @property
    def address(self) -> str:
        """Address of the client, without the port."""

    def abort(self) -> None:
        """End it now."""


class Connections:
    """The connections of a server. One more than there is room for takes the place of the one that has waited
    longest for a request to be whole; never that of one whose request is being answered.

    Args:
        limits: how many there may be.
        room: most that the process can hold, whatever the limits say.
        closed: told why the server ended a connection.
    """

    def __init__(self, limits: ConnectionLimits, room: int, closed: Callable[[Closing], None]) -> None:
        self.limits = limits
        self.most = min(limits.connections, room)
        self.closed = closed
        self._networks: dict[Evictable, str] = {}
        self._counts: Counter[str] = Counter()
        # By when they began to wait, the first first.
        self._waiting: dict[Evictable, None] = {}

    def __len__(self) -> int:
        return len(self._networks)

    def enter(self, connection: Evictable) -> Closing | None:
        """Take a connection on; why not, where there is no room and none can be made."""
        network = network_of(connection.address)
        full, crowded = len(self) >= self.most, self._counts[network] >= self.limits.connections_per_address
        if crowded and not self._evict(network):
            return Closing.TOO_MANY_FROM_ADDRESS
        if full and not crowded and not self._evict():
            return Closing.TOO_MANY
        self._networks[connection] = network
        self._counts[network] += 1
        return None

    def waits(self, connection: Evictable, waiting: bool) -> None:
        """Note that a connection begins to wait for a request to be whole, anew, or no longer waits."""
        self._waiting.pop(connection, None)
        if waiting and connection in self._networks:
            self._waiting[connection] = None

    def leave(self, connection: Evictable) -> None:
        """Forget a connection."""
        self._waiting.pop(connection, None)
        network = self._networks.pop(connection, None)
        if network is not None:
            self._counts[network] -= 1
            self._counts += Counter()  # drops what is 0

    def _evict(self, network: str | None = None) -> bool:
        """Whether a connection could be ended for a new one, of the same network if it is given."""
        candidates = (each for each in self._waiting if network in (None, self._networks[each]))
        oldest = next(candidates, None)
        if oldest is None:
            return False
        self.leave(oldest)
        self.closed(Closing.CROWDED_OUT)
        oldest.abort()
        return True


def network_of(address: str) -> str:
    """What counts as one client: an IPv4 address, or the IPv6 network that is given out to one."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ip_network((int(parsed), _NETWORK_BITS), strict=False))
