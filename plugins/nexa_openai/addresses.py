"""Which address is asked, and which are never asked: those of machines' own metadata."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from urllib.parse import urlsplit

from nexa_core import PreflightError

_METADATA_HOSTS = {"metadata.google.internal", "metadata.goog", "metadata", "instance-data"}
_METADATA = {
    ipaddress.ip_address("fd00:ec2::254"),  # Amazon
    ipaddress.ip_address("100.100.100.200"),  # Alibaba
    ipaddress.ip_address("168.63.129.16"),  # Azure
}


def check_url(url: str) -> str:
    """The URL without a slash at its end.

    Raises:
        PreflightError: It is no http address, or that of a machine's metadata service.
    """
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
    except ValueError:
        port, host, parts = None, None, urlsplit("")
    if parts.scheme not in ("http", "https") or not host or port == 0:
        raise PreflightError(
            f"The base_url '{url}' is no address.",
            "Write http://HOST:PORT/v1 or https://HOST/v1.",
        )
    if host.rstrip(".").lower() in _METADATA_HOSTS or is_forbidden(host):
        raise PreflightError(
            f"The base_url '{url}' is an address of the machine's own metadata, never a model's.",
            "Write the address of the model's server.",
        )
    return url.partition("?")[0].partition("#")[0].rstrip("/")


def is_forbidden(host: str) -> bool:
    """Whether an IP address is link-local or a cloud's metadata service; False for a name."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None) or address
    return mapped.is_link_local or mapped in _METADATA


def refuse_forbidden(hosts: Sequence[str]) -> None:
    """Raise OSError where a name leads to a forbidden address."""
    if any(is_forbidden(host) for host in hosts):
        raise OSError("the name leads to a link-local address, which is never asked")


def is_local(url: str) -> bool:
    """Whether the URL names this machine or a private network."""
    host = urlsplit(url).hostname or ""
    if host == "localhost" or host.endswith((".local", ".internal")):
        return True
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return "." not in host


def is_under(url: str, host: str | None) -> bool:
    """Whether an https URL leads to a host or to one below it."""
    parts = urlsplit(url)
    asked = (parts.hostname or "").lower()
    return bool(host) and parts.scheme == "https" and (asked == host or asked.endswith(f".{host}"))
