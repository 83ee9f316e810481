"""UdpSocket.

Source: mio 0.6.21, ``src/net/udp.rs``.
"""

from __future__ import annotations

import socket
import struct

from mioloop.mio.addr import Addr, ipv4, ipv6, parse
from mioloop.mio.datagram_socket import DatagramSocket
from mioloop.mio.evented_socket import Buffer
from mioloop.mio.ip_socket import IpSocket

_MREQ_V4 = struct.Struct("4s4s")
_MREQ_V6 = struct.Struct("@16sI")


class UdpSocket(IpSocket, DatagramSocket):
    """A UDP socket."""

    __slots__ = ()

    @classmethod
    def bind(cls, addr: Addr) -> UdpSocket:
        """A socket at *addr*; port 0 lets the system choose one.

        Raises:
            ValueError: *addr* is not numeric.
            OSError: ``EADDRINUSE``, ``EADDRNOTAVAIL``, ``EACCES``.
        """
        family, sockaddr = parse(addr)
        return cls._bound(family, sockaddr)

    @classmethod
    def from_socket(cls, sock: socket.socket) -> UdpSocket:
        """Take over *sock*, a stdlib socket, and make it non-blocking."""
        return cls._take(sock)

    def connect(self, addr: Addr) -> None:
        """Send to, and receive from, *addr* only."""
        self._connect(parse(addr)[1])

    def send_to(self, data: Buffer, addr: Addr) -> int:
        """Send a datagram to *addr*; returns its length.

        Raises:
            ValueError: *addr* is not numeric.
            OSError: ``EMSGSIZE`` and other errors of ``sendto(2)``.
        """
        return self._send_to(data, parse(addr)[1])

    def set_broadcast(self, broadcast: bool) -> None:
        """Set whether the socket may send to a broadcast address."""
        self._set_flag(socket.SOL_SOCKET, socket.SO_BROADCAST, broadcast)

    def broadcast(self) -> bool:
        return self._flag(socket.SOL_SOCKET, socket.SO_BROADCAST)

    def set_multicast_loop_v4(self, loop: bool) -> None:
        """Set whether multicast datagrams sent by this socket come back to this host."""
        self._set_flag(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, loop)

    def multicast_loop_v4(self) -> bool:
        return self._flag(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP)

    def set_multicast_ttl_v4(self, ttl: int) -> None:
        """Set the number of routers that a multicast datagram may pass; the default is 1."""
        self._set(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, ttl)

    def multicast_ttl_v4(self) -> int:
        return self._get(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL)

    def set_multicast_loop_v6(self, loop: bool) -> None:
        """Set whether multicast datagrams sent by this socket come back to this host."""
        self._set_flag(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, loop)

    def multicast_loop_v6(self) -> bool:
        return self._flag(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP)

    def join_multicast_v4(self, group: str, interface: str) -> None:
        """Receive the datagrams sent to *group*, on the interface with the address *interface*.

        ``"0.0.0.0"`` leaves the interface to the system.

        Raises:
            ValueError: *group* or *interface* is no numeric IPv4 address.
            OSError: ``EADDRINUSE`` if joined already, ``ENODEV``, ``EINVAL``.
        """
        self._membership_v4(socket.IP_ADD_MEMBERSHIP, group, interface)

    def leave_multicast_v4(self, group: str, interface: str) -> None:
        """Undo `join_multicast_v4`."""
        self._membership_v4(socket.IP_DROP_MEMBERSHIP, group, interface)

    def join_multicast_v6(self, group: str, interface: int) -> None:
        """Receive the datagrams sent to *group*, on the interface with the index *interface*.

        0 leaves the interface to the system.

        Raises:
            ValueError: *group* is no numeric IPv6 address.
            OSError: ``EADDRINUSE`` if joined already, ``ENODEV``, ``EINVAL``.
        """
        self._membership_v6(socket.IPV6_JOIN_GROUP, group, interface)

    def leave_multicast_v6(self, group: str, interface: int) -> None:
        """Undo `join_multicast_v6`."""
        self._membership_v6(socket.IPV6_LEAVE_GROUP, group, interface)

    def _membership_v4(self, option: int, group: str, interface: str) -> None:
        self._set(socket.IPPROTO_IP, option, _MREQ_V4.pack(ipv4(group), ipv4(interface)))

    def _membership_v6(self, option: int, group: str, interface: int) -> None:
        self._set(socket.IPPROTO_IPV6, option, _MREQ_V6.pack(ipv6(group), interface))
