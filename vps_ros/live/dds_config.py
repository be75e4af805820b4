"""Where on the network DDS looks for its peers, from the environment variables that ROS 2 knows."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from ipaddress import ip_address
from xml.sax.saxutils import quoteattr

from vps_ros.errors import InputError

HIGHEST_DOMAIN = 232
"""Of a higher one, the ports would not be ports any more."""
_PARTICIPANTS = 32
"""Processes on one machine that find each other without multicast, as rmw_cyclonedds_cpp has it."""
_LARGE = (
    # A picture of some megabytes in pieces of the default 1.3 kB overruns every socket: few large ones arrive.
    "<General><MaxMessageSize>65500B</MaxMessageSize><FragmentSize>65000B</FragmentSize></General>"
    # With the default of 1 MiB, most of a picture is lost before the receiver looks; the system may allow less.
    '<Internal><SocketReceiveBufferSize min="default" max="16MB"/>'
    # Writers keep their last few messages, whoever has not got them: beyond that, nobody who is slow, or was killed,
    # may hold up the others.
    "<Watermarks><WhcHigh>1GB</WhcHigh></Watermarks></Internal>"
)


def domain_id(given: int | None, environment: Mapping[str, str]) -> int:
    """The domain: as given, else ROS_DOMAIN_ID, else 0. Raises InputError when it is none."""
    text, where = str(given), "--domain"
    if given is None:
        text, where = environment.get("ROS_DOMAIN_ID") or "0", "ROS_DOMAIN_ID"
    try:
        number = int(text)
    except ValueError:
        number = -1
    if not 0 <= number <= HIGHEST_DOMAIN:
        raise InputError(f"{where}: {text!r} is not a domain; give a number from 0 to {HIGHEST_DOMAIN}")
    return number


def check_interface(name: str | None) -> None:
    """Raises InputError when this machine has no network interface of that name; addresses are Cyclone's to judge."""
    if name is not None and _kind(name) == "name":
        there = [one for _, one in socket.if_nameindex()]
        if name not in there:
            raise InputError(f"--interface: there is no {name!r} here; there is {', '.join(there)}")


def configuration(interface: str | None, environment: Mapping[str, str]) -> str:
    """Cyclone's configuration: ours for large messages, then what ROS 2's variables say, then the user's own.

    Later parts win, so that CYCLONEDDS_URI has the last word, but for an `interface` (name or address) that is given.
    """
    parts = [_LARGE, _discovery(environment)]
    text = ",".join(f"<CycloneDDS><Domain>{part}</Domain></CycloneDDS>" for part in parts if part)
    own = environment.get("CYCLONEDDS_URI", "")
    text = f"{text},{own}" if own else text
    if interface is not None:
        one = f"<NetworkInterface {_kind(interface)}={quoteattr(interface)}/>"
        text += f",<CycloneDDS><Domain><General><Interfaces>{one}</Interfaces></General></Domain></CycloneDDS>"
    return text


def _discovery(environment: Mapping[str, str]) -> str:
    """As rmw_cyclonedds_cpp of Jazzy reads ROS_AUTOMATIC_DISCOVERY_RANGE, ROS_STATIC_PEERS and ROS_LOCALHOST_ONLY."""
    reach = environment.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "").upper() or "SUBNET"
    peers = [peer for peer in environment.get("ROS_STATIC_PEERS", "").split(";") if peer]
    if environment.get("ROS_LOCALHOST_ONLY") == "1":
        reach, peers = "LOCALHOST", []
    if reach == "SYSTEM_DEFAULT":
        return ""
    if reach not in ("SUBNET", "LOCALHOST"):
        choices = "SUBNET, LOCALHOST or SYSTEM_DEFAULT"
        raise InputError(f"ROS_AUTOMATIC_DISCOVERY_RANGE: {reach} leaves nobody to talk to; set {choices}")
    if reach == "LOCALHOST":
        peers = ["localhost", *peers]
    listed = "".join(f"<Peer address={quoteattr(peer)}/>" for peer in peers)
    return (
        ("<General><AllowMulticast>false</AllowMulticast></General>" if reach == "LOCALHOST" else "")
        + "<Discovery><ParticipantIndex>auto</ParticipantIndex>"
        + f"<MaxAutoParticipantIndex>{_PARTICIPANTS}</MaxAutoParticipantIndex>"
        + (f"<Peers>{listed}</Peers>" if listed else "")
        + "</Discovery>"
    )


def _kind(interface: str) -> str:
    try:
        ip_address(interface)
    except ValueError:
        return "name"
    return "address"
