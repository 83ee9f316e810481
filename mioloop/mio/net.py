"""TCP and UDP as mio handles. mio: ``mio::net``."""

from mioloop.mio.tcp import TcpListener, TcpStream
from mioloop.mio.udp import UdpSocket

__all__ = ["TcpListener", "TcpStream", "UdpSocket"]
