"""The key that signs for a workspace: made on first use, its private half never leaves the machine."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nexa_core.errors import Place, StoreError
from nexa_core.store.files import disk_errors, make_folder, sync_folder, write_all

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

__all__ = ["KEY_PATH", "SigningKey", "is_signed", "open_key", "read_public_key"]

KEY_PATH = Path(".nexa") / "signing.key"
"""Under the workspace; its folder ignores itself, whatever the workspace's own .gitignore says."""
_BYTES = 32


@dataclass(frozen=True, slots=True)
class SigningKey:
    """An Ed25519 key (RFC 8032); `public` is its public half as 64 hex digits."""

    public: str
    _private: Ed25519PrivateKey

    def sign(self, message: bytes) -> str:
        """The signature of a message as 128 hex digits; equal messages have equal signatures."""
        return self._private.sign(message).hex()


def open_key(root: Path) -> SigningKey:
    """The signing key of the workspace at `root`, made (mode 0600) where there is none.

    Raises:
        StoreError: It cannot be read or written, is no key, or others may read it.
    """
    path = root / KEY_PATH
    if not path.exists():
        _make_key(path)
    with disk_errors(path, StoreError):
        mode, seed = path.stat().st_mode & 0o777, path.read_bytes()
    if mode & 0o077:
        raise StoreError(
            f"The signing key may be read by others (mode {mode:03o}).",
            f"`chmod 600 {KEY_PATH}`; where somebody may have read it, remove it: a new one is made.",
            Place(str(path)),
        )
    if len(seed) != _BYTES:
        raise StoreError(
            "This is no signing key.", "Remove it: a new one is made.", Place(str(path))
        )
    return _load(seed)


def read_public_key(root: Path) -> str | None:
    """The public half of the workspace's key, None where it has none or it cannot be read."""
    try:
        seed = (root / KEY_PATH).read_bytes()
    except OSError:
        return None
    return _load(seed).public if len(seed) == _BYTES else None


def is_signed(message: bytes, signature: str, public: str) -> bool:
    """Whether the key with this public half signed the message."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public))
        key.verify(bytes.fromhex(signature), message)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def _load(seed: bytes) -> SigningKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private = Ed25519PrivateKey.from_private_bytes(seed)
    return SigningKey(private.public_key().public_bytes_raw().hex(), private)


def _make_key(path: Path) -> None:
    """Write a new key, unless another process has made one meanwhile."""
    with disk_errors(path, StoreError):
        make_folder(path.parent)
        (path.parent / ".gitignore").write_text("*\n")
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            write_all(fd, os.urandom(_BYTES))
            os.fsync(fd)
        finally:
            os.close(fd)
        try:
            os.link(temporary, path)  # never over a key that is there
        except FileExistsError:
            pass
        finally:
            temporary.unlink()
        sync_folder(path.parent)
