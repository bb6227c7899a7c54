"""The network: what a hub lists for a commit, and the bytes of its files. No other file opens connections.

Interface of the Hugging Face Hub: `GET /api/models/{repository}/revision/{commit}?blobs=true` and
`GET /{repository}/resolve/{commit}/{file}`. Whatever a host answers is hostile until it is checked.
Addresses are never shown whole: those of content networks carry signatures.
"""

from __future__ import annotations

import http.client
import json
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from email.message import Message
from http import HTTPStatus
from typing import IO, Any, NamedTuple, cast

from synthaug.engine.staging import checked
from synthaug.errors import ConfigError, InputError, SecurityError, SynthaugError, printable

_TIMEOUT = 30.0
"""Seconds without a byte."""
_LARGEST_LISTING = 32 << 20
_MOST_FILES = 20_000
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
_HEX = {"sha256": re.compile(r"[0-9a-f]{64}"), "blob": re.compile(r"[0-9a-f]{40}")}
_RANGE = re.compile(r"bytes ([0-9]+)-([0-9]+)/([0-9]+)")


class Cut(SynthaugError):
    """The connection failed in a way that another attempt may mend."""


class Remote(NamedTuple):
    """One file of a commit, as the host describes it.

    Attributes:
        name: Relative, checked.
        size: Bytes.
        sha256: Of the content, for files in large-file storage; else empty.
        blob: Git's SHA-1 of the blob, for the rest; else empty.
    """

    name: str
    size: int
    sha256: str
    blob: str


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows to https, or within the host that the user named; the token goes to that host alone."""

    def __init__(self, origin: str, token: str) -> None:
        self._origin, self._token = origin, token

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request | None:
        to = urllib.parse.urlsplit(newurl)
        if to.scheme != "https" and _origin(newurl) != self._origin:
            raise SecurityError(
                f"the host sends us on to {printable(to.scheme)}://{printable(to.hostname or '')}, expected https;"
                " nothing is loaded over an open line"
            )
        request = super().redirect_request(req, fp, code, msg, cast("Any", headers), newurl)
        if request is not None:
            authorise(request, self._origin, self._token)
        return request


class Body:
    """Bytes of one file on their way.

    Attributes:
        start: Where they begin in the file; 0 where the host does not resume.
    """

    def __init__(self, answer: http.client.HTTPResponse, start: int) -> None:
        self.start = start
        self._answer = answer

    def __enter__(self) -> Body:
        return self

    def __exit__(self, *_: object) -> None:
        self._answer.close()

    def read(self, count: int) -> bytes:
        """At most `count` bytes, none at the end.

        Raises:
            Cut: The line broke, or was silent for 30 s.
        """
        try:
            return self._answer.read1(count)
        except (OSError, http.client.HTTPException) as error:
            raise Cut(_reason(error)) from error


class Hub:
    """One host.

    Args:
        host: `https://...`, or `http://` on this machine.
        token: Sent to this host alone, never on a redirect elsewhere; empty for none.

    Raises:
        ConfigError: Not such an address, or a token that cannot be one.
    """

    def __init__(self, host: str, token: str = "") -> None:
        self.origin = _checked_host(host)
        if token and not re.fullmatch(r"[!-~]+", token):
            raise ConfigError("HF_TOKEN holds spaces or control characters, expected one token (it is not shown here)")
        self._token = token
        self._opener = urllib.request.OpenerDirector()
        for handler in (
            urllib.request.ProxyHandler(),
            urllib.request.HTTPHandler(),
            urllib.request.HTTPSHandler(),
            urllib.request.HTTPDefaultErrorHandler(),
            urllib.request.HTTPErrorProcessor(),
            _Redirects(self.origin, token),
        ):
            self._opener.add_handler(handler)

    def listing(self, repository: str, commit: str) -> list[Remote]:
        """All files of one commit.

        Raises:
            ConfigError: No such repository or commit, or no access.
            InputError: The host's answer is no listing of that commit.
            SecurityError: A name that would leave the folder.
            Cut: As `Body.read`.
        """
        with self._get(
            f"/api/models/{repository}/revision/{commit}?blobs=true", f"{repository}@{commit[:12]}"
        ) as answer:
            data = _all(Body(answer, 0))
        try:
            found = json.loads(data)
            rows = cast("list[dict[str, Any]]", found["siblings"])
            if found["sha"] != commit:
                raise InputError(
                    f"{self.origin} answers with commit {printable(str(found['sha'])[:60])}, asked: {commit}"
                )
            if len(rows) > _MOST_FILES:
                raise InputError(f"{repository} lists {len(rows)} files, at most {_MOST_FILES} are read")
            return [_remote(row) for row in rows]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise InputError(
                f"{self.origin} gave no listing of {repository} in the Hub's form ({printable(repr(error))});"
                " check host=..."
            ) from error

    def open(self, repository: str, commit: str, name: str, start: int) -> Body:
        """One file from byte `start`, or from its beginning where the host does not resume.

        Raises:
            ConfigError, SecurityError, Cut: As `listing`.
        """
        place = f"/{repository}/resolve/{commit}/{urllib.parse.quote(name)}"
        answer = self._get(place, name, start)
        begin = _begin(answer, start)
        if begin is None:
            answer.close()
            answer, begin = self._get(place, name), 0
        return Body(answer, begin)

    def _get(self, place: str, what: str, start: int = 0) -> http.client.HTTPResponse:
        request = urllib.request.Request(self.origin + place, headers={"Accept-Encoding": "identity"})
        request.add_header("User-Agent", "synthaug")
        if start:
            request.add_header("Range", f"bytes={start}-")
        authorise(request, self.origin, self._token)
        try:
            return cast("http.client.HTTPResponse", self._opener.open(request, timeout=_TIMEOUT))
        except urllib.error.HTTPError as error:
            error.close()
            if start and error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                return self._get(place, what)
            raise self._refusal(error.code, what) from None
        except (OSError, http.client.HTTPException) as error:
            raise Cut(f"{self.origin}: {_reason(error)}") from None

    def _refusal(self, code: int, what: str) -> SynthaugError:
        what = printable(what)
        if code in _TRANSIENT:
            return Cut(f"{self.origin} answers {code} for {what}")
        if code in (401, 403):
            way = "the token in HF_TOKEN is not allowed to" if self._token else "set HF_TOKEN to a token that may"
            return ConfigError(
                f"{self.origin} refuses {what} ({code}): {way} read it; gated models also want their terms accepted"
                " on the web page first"
            )
        return ConfigError(f"{self.origin} answers {code} for {what}; check repository, revision and host")


def authorise(request: urllib.request.Request, origin: str, token: str) -> None:
    """Adds the token to a request to `origin`, and to no other; urllib does not carry it over a redirect."""
    if token and _origin(request.full_url) == origin:
        request.add_unredirected_header("Authorization", f"Bearer {token}")


def _origin(address: str) -> str:
    """Scheme, name and port, in one spelling."""
    parts = urllib.parse.urlsplit(address)
    try:
        port = parts.port
    except ValueError:
        return ""
    name = (parts.hostname or "").lower()
    name = f"[{name}]" if ":" in name else name
    usual = {"https": 443, "http": 80}.get(parts.scheme)
    return f"{parts.scheme}://{name}" + (f":{port}" if port not in (None, usual) else "")


def _checked_host(host: str) -> str:
    try:
        parts = urllib.parse.urlsplit(host)
        name = parts.hostname
    except ValueError:
        raise ConfigError("host=...: not an address; expected something like https://huggingface.co") from None
    if "@" in host or parts.query or parts.fragment or parts.path.strip("/"):
        raise ConfigError("host=...: expected a bare https://NAME[:PORT], without path or credentials; use HF_TOKEN")
    if (
        not name
        or not re.fullmatch(r"[A-Za-z0-9.:-]+", name)
        or not (parts.scheme == "https" or (parts.scheme == "http" and name in _LOOPBACK))
    ):
        raise ConfigError(f"host={printable(host)}: expected https://NAME[:PORT] (http only on this machine)")
    return _origin(host)


def _all(body: Body) -> bytes:
    """A listing, as far as we are willing to hold one."""
    data = bytearray()
    while chunk := body.read(1 << 16):
        data += chunk
        if len(data) > _LARGEST_LISTING:
            raise InputError(f"the listing is longer than {_LARGEST_LISTING} bytes")
    return bytes(data)


def _remote(row: Mapping[str, Any]) -> Remote:
    name, size, large = row["rfilename"], row["size"], cast("dict[str, Any]", row.get("lfs") or {})
    if not isinstance(name, str) or not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise TypeError("a file without a name or a size")
    if "\\" in name or not name.isprintable() or ":" in name:
        raise SecurityError(f"the repository lists {printable(name[:300])!r}; nothing of it is fetched")
    hashes = {"sha256": large.get("sha256") or "", "blob": row.get("blobId") or ""}
    for kind, value in hashes.items():
        if value and not (isinstance(value, str) and _HEX[kind].fullmatch(value)):
            raise TypeError(f"{name}: no {kind}")
    return Remote(checked(name), size, hashes["sha256"], "" if hashes["sha256"] else hashes["blob"])


def _begin(answer: http.client.HTTPResponse, start: int) -> int | None:
    """Where an answer begins in the file; None where it is not what was asked for."""
    if answer.status != HTTPStatus.PARTIAL_CONTENT:
        return 0
    told = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
    return start if told and int(told[1]) == start else None


def _reason(error: BaseException) -> str:
    inner = getattr(error, "reason", None) or error
    return printable(f"{type(inner).__name__}: {inner}" if str(inner) else type(inner).__name__)
