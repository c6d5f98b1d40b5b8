"""Server programs for the tests, from Debian's packages, where this machine lets us install them.

A server that the machine's own release does not carry comes from Debian's unstable suite, in a folder that
debootstrap made. The folder is kept between runs: making it takes about a minute.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from minion_conformance.servers.server import Missing, checked

MIRROR = "http://deb.debian.org/debian"

# Mirrors that are a snapshot say that their lists have expired; for a throw-away server that is no matter.
UPDATE = "apt-get -o Acquire::Check-Valid-Until=false -q update"
INSTALL = "DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install"
UNPACK = "for deb in /var/cache/apt/archives/*.deb; do dpkg -x $deb / || exit; done; ldconfig; apt-get clean"


def home() -> Path:
    """Answer the folder that keeps what was downloaded: ``MINION_TEST_SERVERS``, or one below the cache."""
    chosen = os.environ.get("MINION_TEST_SERVERS")
    if chosen:
        return Path(chosen)
    return (
        Path("/var/cache") / "minion-servers" if os.geteuid() == 0 else Path.home() / ".cache/minion-servers"
    )


def install(package: str) -> None:
    """Install a package of this machine's own release.

    Raises:
        Missing: This is not Debian or Ubuntu, we are not root, or apt-get failed.
    """
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise Missing(f"install {package} (as root on Debian or Ubuntu: apt-get install {package})")
    with _alone():
        _run(f"{UPDATE} && {INSTALL} {package}")


def unstable(package: str, *, configure: bool = True) -> Path:
    """Answer a folder to ``chroot`` into that has a package of Debian's unstable suite installed.

    Args:
        package: Its name.
        configure: Run the scripts that come with it; without, its files and those of what it depends on are
            unpacked, and nothing else happens.

    Raises:
        Missing: It is not there yet, and cannot be made here.
    """
    folder = home() / "debian-unstable"
    unpacked = folder / f"var/lib/minion-unpacked/{package}"
    if (folder / f"var/lib/dpkg/info/{package}.list").exists() or unpacked.exists():
        return folder
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise Missing(f"run this as root on Debian or Ubuntu, where {package} can be put into {folder}")
    with _alone():
        if shutil.which("debootstrap") is None:
            _run(f"{UPDATE} && {INSTALL} debootstrap")
        if not (folder / "usr/bin/apt-get").exists():
            # Made beside its place and moved there whole, so that a run that was stopped leaves no half.
            half = folder.with_name("debian-unstable.new")
            shutil.rmtree(half, ignore_errors=True)
            half.mkdir(parents=True)
            _run(f"debootstrap --variant=minbase sid '{half}' {MIRROR}")
            half.rename(folder)
        if configure:
            _run(f"chroot '{folder}' sh -c '{UPDATE} && {INSTALL} {package}'")
        else:
            _run(f"chroot '{folder}' sh -c '{UPDATE} && {INSTALL} --download-only {package} && {UNPACK}'")
            unpacked.parent.mkdir(exist_ok=True)
            unpacked.touch()
    return folder


@contextmanager
def _alone() -> Iterator[None]:
    """Keep others, in processes of the same test run or another, from installing at the same time."""
    home().mkdir(parents=True, exist_ok=True)
    with (home() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _run(command: str) -> None:
    checked("sh", "-c", command)
