"""The name of an artefact in a registry: ``oci://host[:port]/repository[:tag][@sha256:...]``.

``oci+http://`` is the same without TLS. Source: OCI Distribution Specification 1.1, "Pulling manifests" (the forms of
repository, tag and digest).
"""

import dataclasses
import re
from typing import Final

MAX_CHARACTERS: Final = 1024

SHA256: Final = re.compile(r"sha256:[0-9a-f]{64}")

_SCHEMES: Final = {"oci": "https", "oci+http": "http"}
_PART: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REFERENCE: Final = re.compile(
    r"(?P<scheme>oci|oci\+http)://"
    r"(?P<registry>(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:]+\])(?::[1-9][0-9]{0,4})?)/"
    rf"(?P<repository>{_PART}(?:/{_PART})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]{0,127}))?"
    rf"(?:@(?P<digest>{SHA256.pattern}))?"
)


@dataclasses.dataclass(frozen=True)
class Reference:
    """One artefact.

    Args:
        web_scheme: https or http.
        registry: the host, with a port where one was given.
        repository: in it.
        tag: a name that may be moved; None where none was given.
        digest: of the manifest, ``sha256:`` with hex digits; None where none was given.
    """

    web_scheme: str
    registry: str
    repository: str
    tag: str | None
    digest: str | None

    @property
    def base(self) -> str:
        """Where the repository is on the web."""
        return f"{self.web_scheme}://{self.registry}/v2/{self.repository}"

    @property
    def unpinned(self) -> str:
        """Without the digest, as it is written."""
        scheme = next(scheme for scheme, web in _SCHEMES.items() if web == self.web_scheme)
        return f"{scheme}://{self.registry}/{self.repository}{f':{self.tag}' if self.tag else ''}"


def is_reference(text: str) -> bool:
    """Whether a text means to be one."""
    return text.startswith(tuple(f"{scheme}://" for scheme in _SCHEMES))


def parse_reference(text: str) -> Reference:
    """The artefact that a text names. Raises ValueError."""
    match = _REFERENCE.fullmatch(text) if len(text) <= MAX_CHARACTERS else None
    if match is None:
        raise ValueError(
            "a bundle in a registry is named oci://HOST[:PORT]/REPOSITORY[:TAG][@sha256:HEX], in lower case from the "
            "repository on, and without credentials"
        )
    found = match.groupdict()
    return Reference(_SCHEMES[found["scheme"]], found["registry"], found["repository"], found["tag"], found["digest"])
