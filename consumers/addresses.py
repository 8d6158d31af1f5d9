"""Where a call may go: which addresses are public, and which URLs of servers are accepted.

By the special-purpose registries of IANA (RFC 6890) and the forms in which an IPv6 address carries
an IPv4 one. A URL that two parsers could read in two ways is refused.
"""

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

__all__ = ["Address", "check_url", "is_metadata", "is_public", "is_this_machine"]

Address = IPv4Address | IPv6Address

#: Metadata services by the names of Google, AWS, Tencent, IBM, Equinix, Azure and Rancher.
_METADATA_HOSTS = frozenset(
    (
        "metadata",
        "metadata.google.internal",
        "metadata.goog",
        "instance-data",
        "instance-data.ec2.internal",
        "metadata.tencentyun.com",
        "api.metadata.cloud.ibm.com",
        "metadata.packet.net",
        "metadata.platformequinix.com",
        "metadata.azure.internal",
        "rancher-metadata",
    )
)
#: The network of all metadata services of AWS: instances, containers, EKS Pod Identity.
_METADATA_6 = IPv6Network("fd00:ec2::/32")
#: Most clouds have their metadata services at link-local addresses; these are others: Alibaba,
#: Azure, Oracle (both versions), Google, Scaleway, Linode and Equinix.
_METADATA = frozenset(
    ip_address(address)
    for address in (
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "fd20:ce::254",
        "fd00:c1::a9fe:a9fe",
        "fd00:42::42",
        "fd00:a9fe:a9fe::1",
        "192.80.8.124",
    )
)
#: What Python does not know to be special: protocol assignments and the relays of 6to4.
_NOT_PUBLIC = (IPv4Network("192.0.0.0/24"), IPv4Network("192.88.99.0/24"))
_UNICAST = IPv6Network("2000::/3")
#: Protocol assignments with Teredo, documentation, and 6to4: no server has such an address.
_NOT_PUBLIC_6 = tuple(
    IPv6Network(network) for network in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
)
#: Addresses that lead to the IPv4 address in them: mapped (RFC 4291) and NAT64 (RFC 6052).
_SAME_AS_IPV4 = (IPv6Network("::ffff:0:0/96"), IPv6Network("64:ff9b::/96"))
_LOCAL_NAT64 = IPv6Network("64:ff9b:1::/48")
_IPV4_BITS = 0xFFFF_FFFF

#: A URL has no blanks, no control characters, and nothing that a parser takes for a slash or quote.
_PLAIN = re.compile(r"[!#-;=?-\[\]_a-z~]+")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMERIC = re.compile(r"[0-9]+|0x[0-9a-f]*")


def is_public(address: Address) -> bool:
    """True for an address that anybody on the internet can reach, in whatever form."""
    if isinstance(address, IPv4Address):
        is_ours = any(address in network for network in _NOT_PUBLIC)
        return address.is_global and not (address.is_multicast or is_ours or is_metadata(address))
    if any(address in network for network in _SAME_AS_IPV4):
        return all(map(is_public, _carried(address)))
    return (
        address in _UNICAST
        and address.is_global
        and not any(address in network for network in _NOT_PUBLIC_6)
        and all(map(is_public, _carried(address)))
    )


def is_metadata(address: Address) -> bool:
    """True for a cloud's metadata service, where machines get their secrets, in whatever form."""
    carried = _carried(address) if isinstance(address, IPv6Address) else []
    return address in _METADATA_6 or any(
        target.is_link_local or target in _METADATA for target in (address, *carried)
    )


def is_this_machine(host: str) -> bool:
    """True for a loopback address and the names that stand for it."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def check_url(url: str, *, allow_private: bool) -> None:
    """Refuse a URL that may not be called. Raises ValueError, which says what was expected.

    A name passes here; its addresses are checked when it is resolved. `allow_private` allows plain
    http and addresses that are not public, but never metadata services.
    """
    if any(sign.isspace() for sign in url):
        msg = "a URL without blanks was expected"
        raise ValueError(msg)
    if not _PLAIN.fullmatch(url):
        msg = "a URL of plain ASCII characters was expected; other letters of a host as xn--..."
        raise ValueError(msg)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        msg = "a URL with a port from 1 to 65535 and matching brackets was expected"
        raise ValueError(msg) from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        msg = "a URL such as https://api.example.com/v1 was expected"
        raise ValueError(msg)
    if "@" in parts.netloc or "%" in parts.netloc:
        msg = "a URL without user, password and percent signs before its path was expected"
        raise ValueError(msg)
    if port == 0 or parts.netloc.endswith(":"):
        msg = "a port from 1 to 65535 was expected"
        raise ValueError(msg)
    address = _read_host(parts.hostname, is_bracketed="[" in parts.netloc)
    if parts.hostname in _METADATA_HOSTS or (address is not None and is_metadata(address)):
        msg = "metadata services are never called"
        raise ValueError(msg)
    if allow_private:
        return
    if parts.scheme != "https" or is_this_machine(parts.hostname):
        msg = "https and a public host were expected, or allow_private: true"
        raise ValueError(msg)
    if address is not None and not is_public(address):
        msg = "the address is not public; set allow_private: true if it is meant"
        raise ValueError(msg)


def _read_host(host: str, *, is_bracketed: bool) -> Address | None:
    """The host as an address; None for a name. Raises ValueError for anything else.

    A host whose last part is a number is an address (https://url.spec.whatwg.org, "ends in a
    number"); of the many ways to write it only the plain one is accepted.
    """
    last = host.rpartition(".")[2]
    if is_bracketed or _NUMERIC.fullmatch(last):
        try:
            return IPv6Address(host) if is_bracketed else IPv4Address(host)
        except ValueError:
            msg = "an address such as 192.0.2.1 or [2001:db8::1] was expected"
            raise ValueError(msg) from None
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in host.split(".")):
        msg = "a host of letters, digits, hyphens and single dots was expected"
        raise ValueError(msg)
    return None


def _carried(address: IPv6Address) -> list[IPv4Address]:
    """The IPv4 addresses that an IPv6 address may stand for."""
    value = int(address)
    last = IPv4Address(value & _IPV4_BITS)
    carried = []
    # Compatible and mapped (RFC 4291), translated (RFC 2765), NAT64 (RFC 6052).
    if value >> 32 in (0, 0xFFFF, 0xFFFF_0000) or address in _SAME_AS_IPV4[1]:
        carried.append(last)
    if address in _LOCAL_NAT64:  # its prefix may have any length; bits 64 to 71 are left out
        bits = value >> 64 << 56 | value & (1 << 56) - 1
        carried += [IPv4Address(bits >> 88 - length & _IPV4_BITS) for length in (48, 56, 64)]
        carried.append(last)
    if (six_to_four := address.sixtofour) is not None:  # RFC 3056
        carried.append(six_to_four)
    if (teredo := address.teredo) is not None:  # RFC 4380: the server and the client
        carried += teredo
    if value >> 32 & 0xFDFF_FFFF == 0x5EFE:  # ISATAP, RFC 5214
        carried.append(last)
    return carried
