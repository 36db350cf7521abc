"""Follows what a pull does, as an anonymous client, and notes every host on the way.

Version check, 401 with its realm, token, manifest (of an index, one platform's), and where one
blob is redirected to. A blob is never fetched: where it lies is asked with HEAD, or with a GET
whose body is not read.
"""

from __future__ import annotations

from collections.abc import Mapping

from ramfw.core import registry_api
from ramfw.core.discovery import Met, Pull, Step
from ramfw.core.registry_api import Challenge, Place
from ramfw.errors import ObserveError
from ramfw.observe.web import Reply, Web

MOST_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_OK, _UNAUTHORIZED, _NOT_FOUND = 200, 401, 404
_PARTIAL = 206


def follow(web: Web, registry: Place, repository: str, reference: str) -> Pull:
    """A pull of an image, as far as it goes; without a repository, up to the realm."""
    follower = _Follower(web, registry, repository)
    try:
        follower.greet()
        if repository:
            follower.layers(reference)
        else:
            follower.pull.stopped = "no image was named, so manifests and layers were not asked for"
    except (ObserveError, ValueError) as error:
        follower.pull.stopped = str(error)
    return follower.pull


class _Follower:
    def __init__(self, web: Web, registry: Place, repository: str) -> None:
        self.pull = Pull()
        self._web = web
        self._registry = registry
        self._repository = repository
        self._token = ""

    def greet(self) -> None:
        """The version check, and the token it asks for."""
        home = self._registry
        reply = self._ask(Place(home.scheme, home.host, home.port, "/v2/"), Step.ASKED)
        self.pull.is_registry = reply.status in {_OK, _UNAUTHORIZED}
        if reply.status == _UNAUTHORIZED:
            self._sign_in(reply)
        elif reply.status != _OK:
            raise ObserveError(
                f"{home.host}:{home.port} is no registry: it answers GET /v2/ with {reply.status}"
            )

    def layers(self, reference: str) -> None:
        """From the manifest to the place of a layer."""
        body = self._manifest(reference)
        digest = registry_api.platform_manifest(body)
        if digest is not None:
            body = self._manifest(digest)
        found = registry_api.layers(body)
        for url in found.foreign:
            self._note_foreign(url)
        self._blob(found.digest)

    def _sign_in(self, reply: Reply) -> None:
        asked = registry_api.challenge(reply.headers.get("www-authenticate", ""))
        if asked.scheme == "basic":
            raise ObserveError(
                "the registry asks for a user name and a password, and this asks anonymously"
            )
        realm = self._realm(asked)
        try:
            answer = self._ask(
                registry_api.token_target(realm, asked, self._repository),
                Step.REALM,
                with_body=True,
            )
        except ObserveError as error:
            self.pull.met.append(Met(realm.host, realm.port, Step.REALM, problem=str(error)))
            raise
        if self._repository:
            if answer.status != _OK:
                raise ObserveError(
                    f"{realm.host} gives no token without an account (status {answer.status}), so "
                    "layers were not asked for"
                )
            self._token = registry_api.token(answer.body)

    def _realm(self, asked: Challenge) -> Place:
        try:
            realm = registry_api.place(asked.realm, self._registry)
        except ValueError as error:
            raise ObserveError(f"the registry's realm cannot be followed: {error}") from None
        if realm.scheme == "http" and self._registry.scheme == "https":
            self.pull.met.append(Met(realm.host, realm.port, Step.REALM))
            raise ObserveError("the registry's realm is not https: it was not asked")
        return realm

    def _manifest(self, reference: str) -> bytes:
        path = registry_api.manifest_path(self._repository, reference)
        reply = self._followed(path, Step.MANIFEST, with_body=True)
        if reply.status == _UNAUTHORIZED and not self._token:
            # Some ask only here who it is.
            self._sign_in(reply)
            reply = self._followed(path, Step.MANIFEST, with_body=True)
        if reply.status == _NOT_FOUND:
            raise ObserveError(f"there is no {self._repository}, {reference}")
        if reply.status != _OK:
            raise ObserveError(
                f"no manifest of {self._repository} without an account (status {reply.status})"
            )
        return reply.body

    def _blob(self, digest: str) -> None:
        path = registry_api.blob_path(self._repository, digest)
        home = self._registry
        first = Place(home.scheme, home.host, home.port, path)
        reply = self._ask(first, None, "HEAD")
        if reply.status not in {_OK, *_REDIRECTS}:
            reply = self._ask(first, None, "GET", {"Range": "bytes=0-0"})
        if reply.status in {_OK, _PARTIAL}:
            self.pull.met.append(Met(home.host, home.port, Step.BLOB_HERE, reply.address))
            return
        if reply.status not in _REDIRECTS:
            raise ObserveError(f"no layer was shown (status {reply.status})")
        self._follow(first, reply, Step.BLOB, {"Range": "bytes=0-0"})

    def _followed(self, path: str, step: Step, *, with_body: bool) -> Reply:
        home = self._registry
        first = Place(home.scheme, home.host, home.port, path)
        headers = {"Accept": registry_api.ACCEPTED}
        reply = self._ask(first, None, "GET", headers, with_body=with_body)
        if reply.status in _REDIRECTS:
            reply = self._follow(first, reply, step, headers, with_body=with_body)
        return reply

    def _follow(
        self,
        place: Place,
        reply: Reply,
        step: Step,
        headers: Mapping[str, str],
        *,
        with_body: bool = False,
    ) -> Reply:
        """Go where redirects lead, a bounded number of times."""
        for _ in range(MOST_REDIRECTS):
            try:
                place = registry_api.place(reply.headers.get("location", ""), place)
            except ValueError as error:
                raise ObserveError(f"a redirect cannot be followed: {error}") from None
            if place.scheme == "http" and self._registry.scheme == "https":
                self.pull.met.append(Met(place.host, place.port, step))
                raise ObserveError(f"a redirect to {place.host} is not https: it was not followed")
            try:
                reply = self._ask(place, step, "GET", headers, with_body=with_body)
            except ObserveError as error:
                # That it was named is what is to be known; whether it answers is not.
                self.pull.met.append(Met(place.host, place.port, step, problem=str(error)))
                if step is Step.BLOB:
                    return reply
                raise
            if reply.status not in _REDIRECTS:
                return reply
        raise ObserveError(f"more than {MOST_REDIRECTS} redirects")

    def _note_foreign(self, url: str) -> None:
        try:
            place = registry_api.place(url)
        except ValueError as error:
            raise ObserveError(f"a foreign layer's place cannot be read: {error}") from None
        self.pull.met.append(Met(place.host, place.port, Step.FOREIGN))

    def _ask(
        self,
        place: Place,
        step: Step | None,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        *,
        with_body: bool = False,
    ) -> Reply:
        """One request; the token goes to the registry alone."""
        is_home = place.origin == self._registry.origin
        sent = dict(headers or {})
        if is_home and self._token:
            sent["Authorization"] = f"Bearer {self._token}"
        reply = self._web.ask(place, method, sent, with_body=with_body, any_address=is_home)
        if step is not None:
            self.pull.met.append(Met(place.host, place.port, step, reply.address))
        return reply
