"""A job's code from a git repository: the files of one commit, fetched without any credential, as a package like any other.

A platform process fetches it, and a user says from where: an address inside is reached only where an operator named it, and what was looked
at is what is connected to (a name may mean another address a moment later, and an answer may lead elsewhere).
"""

from __future__ import annotations

import ipaddress
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from cluster.settings import Network, inherited_environment
from tune.trainos.code_package import MAX_UNPACKED_BYTES, BadPackage

_FETCH_S = 300.0
_PORTS = {"https": 443, "http": 80, "git": 9418}


def fetch_commit(git: str, commit: str, package: Path, inner: Sequence[Network] = ()) -> None:
    """Write the commit's files to ``package``, a zip file; submodules and files of Git LFS stay pointers.

    ``inner`` are the networks that are not of the Internet and may be asked. Raises: BadPackage, in git's words, where it cannot be had.
    """
    try:
        pinned, source = _pin(git, inner)
    except (OSError, ValueError) as error:
        raise BadPackage(f"commit {commit} of {git} cannot be fetched: {error}") from None
    with tempfile.TemporaryDirectory(prefix="aidos-git-") as folder:
        for arguments in (
            ("init", "--quiet", "--bare"),
            (*pinned, "fetch", "--quiet", "--depth=1", "--no-tags", "--", source, commit),
            ("archive", "--format=zip", f"--output={package}", commit),
        ):
            try:
                done = _run(folder, *arguments)
            except subprocess.TimeoutExpired:
                raise BadPackage(f"commit {commit} of {git} took longer than {_FETCH_S:g} s to fetch") from None
            if done.returncode:
                words = " ".join(done.stderr.split()) or f"git {arguments[0]} ended with {done.returncode}"
                raise BadPackage(f"commit {commit} of {git} cannot be fetched: {words}")


def _pin(git: str, inner: Sequence[Network]) -> tuple[tuple[str, ...], str]:
    """Options and URL by which git connects to the address that the URL's host has now, and nowhere else.

    Raises: OSError, ValueError (no address, or one that may not be asked).
    """
    url = urlsplit(git)
    host, port = url.hostname or "", url.port or _PORTS[url.scheme]
    found = {str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    for address in found:
        if not _may_be_asked(ipaddress.ip_address(address), inner):
            raise ValueError(f"{host} is at {address}, which is not on the Internet; an operator may allow it (AIDOS_GIT_NETWORKS)")
    shown = [f"[{address}]" if ":" in address else address for address in sorted(found, key=lambda each: ":" in each)]  # IPv4 first
    if url.scheme == "git":
        return (), url._replace(netloc=f"{shown[0]}:{port}").geturl()
    return ("-c", f"http.curloptResolve={host}:{port}:{','.join(shown)}", "-c", "http.followRedirects=false"), git


def _may_be_asked(address: ipaddress.IPv4Address | ipaddress.IPv6Address, inner: Sequence[Network]) -> bool:
    mapped = getattr(address, "ipv4_mapped", None) or address
    return (mapped.is_global and not mapped.is_multicast) or any(mapped in network for network in inner)


def _run(folder: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = inherited_environment() | {
        "HOME": folder,
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ALLOW_PROTOCOL": "https:http:git",
    }
    # In blocks of 512 bytes (POSIX ulimit): a repository may not fill the platform's disk.
    limited = ("sh", "-c", f'ulimit -f {MAX_UNPACKED_BYTES // 512}; exec git "$@"', "git", *arguments)
    return subprocess.run(limited, cwd=folder, env=environment, capture_output=True, text=True, timeout=_FETCH_S, check=False)
