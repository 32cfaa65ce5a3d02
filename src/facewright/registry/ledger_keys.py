"""Who writes the ledger: a name, an Ed25519 key that signs, and the public keys that are trusted.

The private key is one person's or one machine's: `$FACEWRIGHT_LEDGER_KEY`, else
`~/.config/facewright/ledger.key`, never in the project. The public keys lie in the project,
`mlflow/ledger-keys/NAME.pub` (or in the folder `$FACEWRIGHT_LEDGER_KEYS`): who may commit there
says who is trusted. See docs/decisions/ledger.md.
"""

import getpass
import hashlib
import os
import re
import secrets
import subprocess
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from facewright.errors import RegistryError
from facewright.files import storage_errors
from facewright.progress import say

KEY_VARIABLE, KEYS_VARIABLE = "FACEWRIGHT_LEDGER_KEY", "FACEWRIGHT_LEDGER_KEYS"
KEYS = Path("mlflow", "ledger-keys")  # in the project
ACTOR_LENGTH = 200  # characters


@dataclass(frozen=True)
class Signer:
    """A private key with its public half, 32 bytes in base64, and the id of that."""

    private: Ed25519PrivateKey
    public: str
    id: str

    def sign(self, message: bytes) -> str:
        """The signature, 64 bytes in base64; the same message gives the same one."""
        return b64encode(self.private.sign(message)).decode()


def key_id(public: str) -> str:
    """The first 16 hex digits of the sha256 of a public key.

    Raises:
        ValueError: `public` is not base64 in its one canonical form.
    """
    raw = b64decode(public, validate=True)
    if b64encode(raw).decode() != public:
        raise ValueError("base64 with loose bits")
    return hashlib.sha256(raw).hexdigest()[:16]


def is_signed(message: bytes, *, signature: str, public: str) -> bool:
    """Whether the signature of `message` is that key's."""
    try:
        raw = b64decode(signature, validate=True)
        key = Ed25519PublicKey.from_public_bytes(b64decode(public, validate=True))
        key.verify(raw, message)
    except (ValueError, InvalidSignature):
        return False
    return b64encode(raw).decode() == signature


def signer() -> Signer:
    """This person's key; made at the first use, aloud.

    Raises:
        RegistryError: the file holds no Ed25519 private key.
        StorageError: it cannot be read or written.
    """
    path = key_file()
    try:
        with storage_errors(path):
            if not path.exists():
                _make_key(path)
            content = path.read_bytes()
            if path.stat().st_mode & 0o077:
                say(f"ledger: others can read the key {path}: chmod 600 it")
    except OSError as error:  # most likely a folder
        raise RegistryError(
            f"{path} cannot be read as a key ({error.strerror}): name a file in ${KEY_VARIABLE}"
        ) from error
    try:
        private = serialization.load_pem_private_key(content, password=None)
    except (ValueError, TypeError) as error:
        raise RegistryError(
            f"{path} holds no private key: name another file in ${KEY_VARIABLE}"
        ) from error
    if not isinstance(private, Ed25519PrivateKey):
        raise RegistryError(f"{path} is no Ed25519 key: name another file in ${KEY_VARIABLE}")
    public = b64encode(private.public_key().public_bytes_raw()).decode()
    return Signer(private, public, key_id(public))


def key_file() -> Path:
    """Where this person's private key is, or will be."""
    named = os.environ.get(KEY_VARIABLE)
    return Path(named) if named else Path.home() / ".config" / "facewright" / "ledger.key"


def trusted_keys() -> dict[str, str]:
    """Names of the trusted keys by key id; empty where nobody was trusted yet.

    Raises:
        RegistryError: a file is no Ed25519 public key in PEM.
    """
    found = {}
    for path in sorted(keys_folder().glob("*.pub")):
        try:
            with storage_errors(path):
                content = path.read_bytes()
            key = serialization.load_pem_public_key(content)
            if not isinstance(key, Ed25519PublicKey):
                raise ValueError
        except (ValueError, OSError) as error:
            raise RegistryError(
                f"{path} is no Ed25519 public key in PEM: write it with `facewright ledger key`"
            ) from error
        found[key_id(b64encode(key.public_bytes_raw()).decode())] = path.stem
    return found


def trust(mine: Signer, name: str | None = None) -> Path:
    """Write the public key to the project's trusted ones; returns its file.

    Raises:
        RegistryError: another key has that name.
        StorageError: the folder cannot be written.
    """
    if name is None:
        name = f"{_user()}-{mine.id[:8]}"
    path = keys_folder() / (re.sub(r"[^\w.@-]+", "-", name) + ".pub")
    content = mine.private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and path.read_bytes() != content:
            raise RegistryError(f"{path} is another key: choose another name")
        partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        partial.write_bytes(content)
        partial.replace(path)
    return path


def keys_folder() -> Path:
    """Where the trusted public keys lie."""
    return Path(os.environ.get(KEYS_VARIABLE) or KEYS)


def present_actor() -> str:
    """Who this is, as far as the machine can say: git's user.email, else the user's name."""
    try:
        done = subprocess.run(
            ["git", "config", "user.email"], capture_output=True, text=True, timeout=60
        )
        email = done.stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        email = ""
    return " ".join((email or _user()).split())[:ACTOR_LENGTH]


def untrusted(mine: Signer, trusted: Mapping[str, str]) -> RegistryError:
    """The line for somebody whose key nobody trusts yet."""
    known = ", ".join(sorted(trusted.values())) or "none"
    return RegistryError(
        f"your ledger key {mine.id} is not among the trusted ones in {keys_folder()} ({known}): "
        "write it there with `facewright ledger key --trust NAME` and have it reviewed"
    )


def _make_key(path: Path) -> None:
    """A new key at `path`; of two processes at once one makes it and both use it."""
    private = Ed25519PrivateKey.generate()
    content = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            os.fsync(file.fileno())
        try:
            os.link(partial, path)  # fails where a key is, unlike a rename
        except FileExistsError:
            return
    finally:
        partial.unlink()
    say(f"ledger: made the key that signs your promotions, {path}: keep it to yourself, and a copy")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return f"uid-{os.getuid()}"
