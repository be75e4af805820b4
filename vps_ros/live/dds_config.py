"""Configuration of Cyclone DDS from the environment variables of ROS 2: domain, discovery, interface, buffers."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from ipaddress import ip_address
from xml.sax.saxutils import quoteattr

from vps_ros.errors import InputError

HIGHEST_DOMAIN = 232
"""A higher domain would need port numbers above 65535."""
_PARTICIPANTS = 32
"""Processes on one machine that find each other without multicast; the value of rmw_cyclonedds_cpp."""
_LARGE = (
    # An image of some megabytes in fragments of the default 1.3 kB overruns socket buffers; few large fragments do not.
    "<General><MaxMessageSize>65500B</MaxMessageSize><FragmentSize>65000B</FragmentSize></General>"
    # With the default of 1 MiB most of an image is lost before the receiver reads; the system may allow less.
    '<Internal><SocketReceiveBufferSize min="default" max="16MB"/>'
    # High enough that a subscriber that is slow or was killed never blocks a writer, which keeps its last few messages.
    "<Watermarks><WhcHigh>1GB</WhcHigh></Watermarks></Internal>"
)


def domain_id(given: int | None, environment: Mapping[str, str]) -> int:
    """The domain: `given`, else ROS_DOMAIN_ID, else 0. Raises InputError for an invalid number."""
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
    """Raises InputError when this machine has no network interface of that name; Cyclone itself checks addresses."""
    if name is not None and _kind(name) == "name":
        there = [one for _, one in socket.if_nameindex()]
        if name not in there:
            raise InputError(f"--interface: this machine has no {name!r}; it has {', '.join(there)}")


def configuration(interface: str | None, environment: Mapping[str, str]) -> str:
    """Cyclone's configuration: for large messages, by the variables of ROS 2, CYCLONEDDS_URI, `interface`.

    Later parts win. `interface` is a name or an address.
    """
    own = environment.get("CYCLONEDDS_URI", "")
    reach, peers = _discovery_range(environment)
    interfaces = [] if interface is None else [interface]
    # Cyclone uses the interfaces of all parts together, so that no part may repeat one.
    if reach == "LOCALHOST" and not interfaces and not _names_interfaces(own):
        interfaces = _addresses_towards(peers)
    chosen = "".join(f"<NetworkInterface {_kind(one)}={quoteattr(one)}/>" for one in interfaces)
    last = f"<General><Interfaces>{chosen}</Interfaces></General>" if chosen else ""
    parts = [_in_domain(_LARGE), _in_domain(_discovery(reach, peers)), own, _in_domain(last)]
    return ",".join(part for part in parts if part)


def _discovery_range(environment: Mapping[str, str]) -> tuple[str, list[str]]:
    """Discovery range and peers by ROS_AUTOMATIC_DISCOVERY_RANGE, ROS_STATIC_PEERS and ROS_LOCALHOST_ONLY."""
    reach = environment.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "").upper() or "SUBNET"
    peers = [peer for peer in environment.get("ROS_STATIC_PEERS", "").split(";") if peer]
    if environment.get("ROS_LOCALHOST_ONLY") == "1":
        reach, peers = "LOCALHOST", []
    if reach not in ("SUBNET", "LOCALHOST", "SYSTEM_DEFAULT"):
        choices = "SUBNET, LOCALHOST or SYSTEM_DEFAULT"
        raise InputError(f"ROS_AUTOMATIC_DISCOVERY_RANGE: {reach} is not supported; set {choices}")
    return reach, ["localhost", *peers] if reach == "LOCALHOST" else peers


def _discovery(reach: str, peers: list[str]) -> str:
    """The discovery settings of rmw_cyclonedds_cpp in Jazzy."""
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


def _addresses_towards(peers: list[str]) -> list[str]:
    """Own addresses from which these peers are reached.

    Cyclone 11 and later receives only on the interfaces that it has chosen, and never chooses loopback by itself where
    there is another interface: it would not find nodes on the same machine that address it as localhost.
    """
    found = []
    for peer in peers:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                # Sends nothing, but selects the route.
                probe.connect((peer, 9))
            except (OSError, UnicodeError):
                continue
            found.append(probe.getsockname()[0])
    return list(dict.fromkeys(found))


def _names_interfaces(own: str) -> bool:
    """Whether a CYCLONEDDS_URI names interfaces; assumed when it is a file."""
    return "NetworkInterface" in own or bool(re.sub("<.*>", "", own, flags=re.DOTALL).strip(" ,"))


def _in_domain(part: str) -> str:
    return f"<CycloneDDS><Domain>{part}</Domain></CycloneDDS>" if part else ""


def _kind(interface: str) -> str:
    try:
        ip_address(interface)
    except ValueError:
        return "name"
    return "address"
