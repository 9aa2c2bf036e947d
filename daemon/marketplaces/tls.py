"""Which certificates a marketplace may show."""

import ssl
from pathlib import Path

from daemon.core.errors import ConfigError
from daemon.core.types import ChannelName


def ssl_context(channel: ChannelName, ca_file: Path | None) -> ssl.SSLContext:
    """The system's authorities, and those of `ca_file` beside them. Raises ConfigError when it cannot be read."""
    context = ssl.create_default_context()
    # Not everywhere the interpreter's own default.
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if ca_file is not None:
        try:
            context.load_verify_locations(ca_file)
        except OSError as error:  # ssl.SSLError is one
            raise ConfigError(
                f"channels.{channel}.ca_file: {ca_file} cannot be read as certificates in PEM form "
                f"({error.strerror or type(error).__name__})"
            ) from error
    return context
