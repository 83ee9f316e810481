"""IpSocket: options of every IPv4 and IPv6 socket.

Source: mio 0.6.21, ``src/net``, the options that all its types have.
"""

from __future__ import annotations

import socket

from mioloop.mio.evented_socket import EventedSocket


class IpSocket(EventedSocket):
    """An IPv4 or IPv6 socket."""

    __slots__ = ()

    _families = (socket.AF_INET, socket.AF_INET6)

    def set_ttl(self, ttl: int) -> None:
        """Set the number of routers that a packet may pass.

        Raises:
            OSError: ``EINVAL`` outside 1 to 255.
        """
        self._set(socket.IPPROTO_IP, socket.IP_TTL, ttl)

    def ttl(self) -> int:
        return self._get(socket.IPPROTO_IP, socket.IP_TTL)

    def set_only_v6(self, only_v6: bool) -> None:
        """Set whether an IPv6 socket refuses IPv4. Possible only before it is bound.

        Raises:
            OSError: ``EINVAL`` after bind, ``ENOPROTOOPT`` on an IPv4 socket.
        """
        self._set_flag(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only_v6)

    def only_v6(self) -> bool:
        return self._flag(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
