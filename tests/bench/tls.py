"""A certificate for the stub, which is its own authority: ours gets it as `ca_bundle`, the peers as `SSL_CERT_FILE`."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import NamedTuple


class Certificate(NamedTuple):
    """The files of a certificate for 127.0.0.1 and of its key."""

    path: Path
    key: Path

    @classmethod
    def made(cls, folder: Path) -> Certificate:
        """Makes one that lasts two days."""
        made = cls(folder / "cert.pem", folder / "key.pem")
        command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=bench"
        names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(made.key), "-out", str(made.path)]
        subprocess.run([*command.split(), *names], check=True, capture_output=True)
        return made
