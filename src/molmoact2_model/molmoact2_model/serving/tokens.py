# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The token that a server asks of its clients: read from a file, never an argument or a parameter, never shown."""

from __future__ import annotations

import hmac
import os
import stat
from pathlib import Path

from ..errors import InputError

LEAST = 16


class Token:
    """Kept so that neither a log nor an error shows it."""

    def __init__(self, secret: str):
        self._secret = secret

    @classmethod
    def from_file(cls, path: str | Path) -> Token:
        """The first line. Errors: InputError for a file that others may read, or a token that could be guessed."""
        try:
            with open(Path(path).expanduser(), encoding="ascii") as file:
                mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
                secret = file.readline(4096).strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it holds more than ASCII"
            raise InputError(f"token file {path} cannot be read: {reason}") from None
        if mode & 0o077:
            raise InputError(f"token file {path} may be read by others (mode {mode:04o}); chmod 600 it")
        if len(secret) < LEAST or not secret.isprintable() or " " in secret:
            raise InputError(
                f"token file {path} has no token of at least {LEAST} characters without spaces in its first line; "
                "make one: openssl rand -hex 32"
            )
        return cls(secret)

    @property
    def header(self) -> str:
        """The value of the header Authorization."""
        return f"Bearer {self._secret}"

    def matches(self, header: str) -> bool:
        """Compares in a time that does not depend on how much of it is right."""
        return hmac.compare_digest(header.encode(), self.header.encode())

    def __repr__(self) -> str:
        return "Token(...)"
