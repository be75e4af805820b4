"""Where on the network DDS looks for its peers, from the environment variables that ROS 2 knows."""

from __future__ import annotations

import re
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
    own = environment.get("CYCLONEDDS_URI", "")
    reach, peers = _reach(environment)
    interfaces = [] if interface is None else [interface]
    # Cyclone takes those of all parts together, and none twice.
    if reach == "LOCALHOST" and not interfaces and not _names_interfaces(own):
        interfaces = _towards(peers)
    chosen = "".join(f"<NetworkInterface {_kind(one)}={quoteattr(one)}/>" for one in interfaces)
    last = f"<General><Interfaces>{chosen}</Interfaces></General>" if chosen else ""
    parts = [_in_domain(_LARGE), _in_domain(_discovery(reach, peers)), own, _in_domain(last)]
    return ",".join(part for part in parts if part)


def _reach(environment: Mapping[str, str]) -> tuple[str, list[str]]:
    """How far to look, and whom to ask, by ROS_AUTOMATIC_DISCOVERY_RANGE, ROS_STATIC_PEERS and ROS_LOCALHOST_ONLY."""
    reach = environment.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "").upper() or "SUBNET"
    peers = [peer for peer in environment.get("ROS_STATIC_PEERS", "").split(";") if peer]
    if environment.get("ROS_LOCALHOST_ONLY") == "1":
        reach, peers = "LOCALHOST", []
    if reach not in ("SUBNET", "LOCALHOST", "SYSTEM_DEFAULT"):
        choices = "SUBNET, LOCALHOST or SYSTEM_DEFAULT"
        raise InputError(f"ROS_AUTOMATIC_DISCOVERY_RANGE: {reach} leaves nobody to talk to; set {choices}")
    return reach, ["localhost", *peers] if reach == "LOCALHOST" else peers


def _discovery(reach: str, peers: list[str]) -> str:
    """As rmw_cyclonedds_cpp of Jazzy has it."""
    if reach == "SYSTEM_DEFAULT":
        return ""
    listed = "".join(f"<Peer address={quoteattr(peer)}/>" for peer in peers)
    return (
        ("<General><AllowMulticast>false</AllowMulticast></General>" if reach == "LOCALHOST" else "")
        + "<Discovery><ParticipantIndex>auto</ParticipantIndex>"
        + f"<MaxAutoParticipantIndex>{_PARTICIPANTS}</MaxAutoParticipantIndex>"
        + (f"<Peers>{listed}</Peers>" if listed else "")
        + "</Discovery>"
    )


def _towards(peers: list[str]) -> list[str]:
    """Own addresses from which these peers are reached.

    Since 11, Cyclone hears nothing that comes over an interface which it has not chosen, and of itself it never chooses
    loopback where there is another: nodes on the same machine that address it as localhost would not be met.
    """
    found = []
    for peer in peers:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                # Sends nothing: it only asks for the way.
                probe.connect((peer, 9))
            except (OSError, UnicodeError):
                continue
            found.append(probe.getsockname()[0])
    return list(dict.fromkeys(found))


def _names_interfaces(own: str) -> bool:
    """Whether a CYCLONEDDS_URI does; of one that is a file it is assumed."""
    return "NetworkInterface" in own or bool(re.sub("<.*>", "", own, flags=re.DOTALL).strip(" ,"))


def _in_domain(part: str) -> str:
    return f"<CycloneDDS><Domain>{part}</Domain></CycloneDDS>" if part else ""


def _kind(interface: str) -> str:
    try:
        ip_address(interface)
    except ValueError:
        return "name"
    return "address"
