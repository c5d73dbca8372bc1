"""TLS to an origin: which name is asked for, and whose certificate is taken."""

from __future__ import annotations

import contextlib
import datetime as dt
import ipaddress
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import WSMsgType, web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.sites.world import tenants
from tests.support import eventually
from tests.support.world import World

DAY = dt.timedelta(days=1)


class Authority:
    """A certificate authority, and the certificates that it signs, as files in a directory."""

    def __init__(self, directory: Path, name: str = "authority") -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        usage = x509.KeyUsage(
            digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False, key_encipherment=False,
            data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
        )  # fmt: skip
        made = self._builder(self._name, self._key.public_key())
        made = made.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        self.certificate = made.add_extension(usage, critical=True).sign(self._key, hashes.SHA256())
        self.file = directory / f"{name}.pem"
        self.file.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))

    def context(self, *hosts: str, is_expired: bool = False) -> ssl.SSLContext:
        """What a server needs that is all of these hosts."""
        key = ec.generate_private_key(ec.SECP256R1())
        names: list[x509.GeneralName] = [_name(host) for host in hosts]
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "origin")])
        made = self._builder(subject, key.public_key(), ends=-DAY if is_expired else DAY)
        made = made.add_extension(x509.SubjectAlternativeName(names), critical=False)
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        signed = made.add_extension(authority, critical=False).sign(self._key, hashes.SHA256())
        file = self._directory / f"{len(list(self._directory.iterdir()))}.pem"
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        file.write_bytes(private + signed.public_bytes(serialization.Encoding.PEM))
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(file)
        return context

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, ends: dt.timedelta = DAY
    ) -> x509.CertificateBuilder:
        now = dt.datetime.now(dt.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 2 * DAY)
            .not_valid_after(now + ends)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        )


def _name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


class SecureOrigin:
    """An origin over TLS that notes which name each connection asked for."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.names: list[str | None] = []
        self.hosts: list[str] = []
        self.url = ""
        self._context = context
        context.sni_callback = self._named

    def _named(self, _socket: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> None:
        self.names.append(name)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[SecureOrigin]:
        """Serve on loopback."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=self._context).start()
        self.url = f"https://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.hosts.append(request.host)
        if "Upgrade" in request.headers:
            socket = web.WebSocketResponse()
            await socket.prepare(request)
            await socket.send_str("secure")
            await socket.close()
            return socket
        return web.Response(text="secure", headers={"Cache-Control": "no-store"})


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """An authority that edges trust."""
    made = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(made.file))
    return made


async def test_the_name_is_that_of_the_sites_host_whatever_the_address(tmp_path: Path, authority: Authority) -> None:
    context = authority.context("shop.example", "*.shop.example")
    async with SecureOrigin(context).running() as origin, tenants(tmp_path / "edge") as place:
        await place.put("shop.example", aliases=["*.shop.example"], origin=origin.url)
        for host in ("shop.example", "a.shop.example", "SHOP.example:8443", "shop.example"):
            assert (await place.ask(host)).body == b"secure"
        assert [str(name).lower() for name in origin.names] == ["shop.example", "a.shop.example"]
        assert origin.hosts == ["shop.example", "a.shop.example", "SHOP.example:8443", "shop.example"]


async def test_the_name_is_the_one_that_the_site_says(tmp_path: Path, authority: Authority) -> None:
    context = authority.context("backend.example")
    async with SecureOrigin(context).running() as origin, tenants(tmp_path / "edge") as place:
        await place.put("shop.example", origin=origin.url, origin_host="backend.example")
        assert (await place.ask("shop.example")).body == b"secure"
        assert (origin.names, origin.hosts) == (["backend.example"], ["backend.example"])


async def test_connections_of_one_name_serve_no_other(tmp_path: Path, authority: Authority) -> None:
    """Two sites at one address: the certificate is that of the first alone."""
    async with SecureOrigin(authority.context("one.example")).running() as origin, tenants(tmp_path / "edge") as place:
        await place.put("one.example", origin=origin.url)
        await place.put("two.example", origin=origin.url)
        for _ in range(3):
            assert (await place.ask("one.example")).body == b"secure"
            assert (await place.ask("two.example")).status == 502
        assert origin.hosts == ["one.example"] * 3


@pytest.mark.parametrize("case", ["wrong name", "address alone", "expired", "other authority"])
async def test_a_certificate_that_is_not_the_hosts_is_refused(tmp_path: Path, authority: Authority, case: str) -> None:
    if case == "other authority":
        context = Authority(tmp_path, "other").context("shop.example")
    else:
        host = {"wrong name": "evil.example", "address alone": "127.0.0.1"}.get(case, "shop.example")
        context = authority.context(host, is_expired=case == "expired")
    async with SecureOrigin(context).running() as origin, tenants(tmp_path / "edge") as place:
        await place.put("shop.example", origin=origin.url, rules=[{"path": "/items/{id}", "write": "behind"}])
        for method in ("GET", "POST"):
            assert (await place.ask("shop.example", method=method)).status == 502
        assert (await place.ask("shop.example", "/items/1", "PUT", json={})).status == 202
        await eventually(lambda: len(origin.names) >= 3)
        assert origin.hosts == []


async def test_the_origin_of_the_settings_is_asked_for_as_its_address_names_it(
    tmp_path: Path, authority: Authority
) -> None:
    async with (
        SecureOrigin(authority.context("127.0.0.1")).running() as origin,
        World(tmp_path / "edge") as world,
    ):
        edge = await world.edge(origin=origin.url)
        assert (await edge.get("/page", headers={"Host": "shop.example"})).body == b"secure"
        assert origin.hosts == [origin.url.removeprefix("https://")]


async def test_a_websocket_asks_for_the_same_name(tmp_path: Path, authority: Authority) -> None:
    async with (
        SecureOrigin(authority.context("shop.example")).running() as origin,
        tenants(tmp_path / "edge") as place,
    ):
        await place.put("shop.example", origin=origin.url)
        url, headers = f"{place.edge.url}/chat", {"Host": "shop.example"}
        async with place.world.session.ws_connect(url, headers=headers) as socket:
            message = await socket.receive()
            assert (message.type, message.data) == (WSMsgType.TEXT, "secure")
        assert (origin.names, origin.hosts) == (["shop.example"], ["shop.example"])
