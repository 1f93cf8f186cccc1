"""Keys shared by the tables of servers: the credential, and which certificate is accepted."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, Field, SecretStr

from bridge.config.values import FilePath, Section
from bridge.outbound.headers import check_header_name, check_header_value

if TYPE_CHECKING:
    from bridge.tls import Trust


def _check_key(name: str) -> str:
    return check_header_name(name) if name else name


def _check_value(value: SecretStr) -> SecretStr:
    check_header_value(value.get_secret_value())
    return value


Switch = Annotated[bool, Field(description="true or false")]
HeaderName = Annotated[str, AfterValidator(_check_key), Field(description="a string")]


class TlsServer(Section):
    """A server whose certificate is checked."""

    verify_tls: Switch = True
    """Whether the server's certificate is checked."""
    ca_file: FilePath = ""
    """PEM file with the authority to trust instead of those of the system; in a request or a flow relative to
    ``outbound.ca_dir``."""

    def trust(self, ca_dir: str | None = None) -> "Trust":
        """Return which certificates to accept.

        Args:
            ca_dir: the directory that must contain ``ca_file`` if it is not from the configuration file
                (`bridge.tls.Trust`).
        """
        from bridge.tls import Trust  # not needed to read the configuration

        return Trust(self.verify_tls, self.ca_file, ca_dir)


class Endpoint(TlsServer):
    """A server that requires a credential."""

    auth_key: HeaderName = "Secret"
    """Header that carries the credential. Empty: none."""
    auth_value: Annotated[SecretStr, AfterValidator(_check_value), Field(description="a string")] = SecretStr("")
    """The credential, for example `"Bearer ..."`. Empty: none is sent."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The header with the credential. Contains a secret."""
        value = self.auth_value.get_secret_value()
        return {self.auth_key: value} if self.auth_key and value else {}
