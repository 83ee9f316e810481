"""Numeric socket addresses: no function here asks a resolver, which would block.

Source: ``std::net::SocketAddr``, which mio 0.6.21 takes everywhere.
"""

from __future__ import annotations

import re
import socket
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

# ("127.0.0.1", 80), ("::1", 80, 0, 0), "127.0.0.1:80" or "[::1]:80".
Addr = str | tuple[str, int] | tuple[str, int, int, int]

_TEXT = re.compile(r"(?:\[(?P<v6>[^][]*)\]|(?P<v4>[^][:]*)):(?P<port>[0-9]{1,5})", re.ASCII)
_LIMITS = (("port", 0xFFFF), ("flow information", 0xFFFFF), ("scope", 0xFFFFFFFF))


def parse(addr: Addr) -> tuple[socket.AddressFamily, tuple[Any, ...]]:
    """The family of *addr*, and the tuple that the stdlib's sockets take.

    Raises:
        ValueError: not a numeric IPv4 or IPv6 address with a port.
    """
    host: Any
    numbers: tuple[Any, ...]
    if isinstance(addr, str):
        match = _TEXT.fullmatch(addr)
        if match is None:
            raise _invalid(addr, "it is not of the form '127.0.0.1:80' or '[::1]:80'")
        host, numbers = match["v6"] or match["v4"], (int(match["port"]),)
        version = 4 if match["v6"] is None else 6
    elif isinstance(addr, tuple) and len(addr) in (2, 3, 4) and isinstance(addr[0], str):
        host, *rest = addr
        numbers, version = tuple(rest), None
    else:
        raise _invalid(addr, "it is neither text nor a tuple of a host and a port")

    try:
        ip = ip_address(host)
    except ValueError:
        raise _invalid(addr, f"{host!r} is not a numeric host") from None
    if version not in (None, ip.version):
        raise _invalid(addr, "brackets are for IPv6, and IPv6 needs them")
    for (name, limit), number in zip(_LIMITS, numbers, strict=False):
        if not isinstance(number, int) or not 0 <= number <= limit:
            raise _invalid(addr, f"its {name} must be from 0 to {limit}, not {number!r}")
    if isinstance(ip, IPv6Address):
        if ip.scope_id is not None:
            raise _invalid(addr, "a scope is the fourth number of the tuple")
        return socket.AF_INET6, (str(ip), *numbers)
    if len(numbers) > 1:
        raise _invalid(addr, "IPv4 has a host and a port only")
    return socket.AF_INET, (str(ip), *numbers)


def ipv4(host: str) -> bytes:
    """The four bytes of *host*.

    Raises:
        ValueError: not a numeric IPv4 address.
    """
    return IPv4Address(host).packed


def ipv6(host: str) -> bytes:
    """The sixteen bytes of *host*.

    Raises:
        ValueError: not a numeric IPv6 address.
    """
    return IPv6Address(host).packed


def _invalid(addr: object, reason: str) -> ValueError:
    return ValueError(f"invalid socket address {addr!r}: {reason}")
