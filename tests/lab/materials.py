"""What every lab needs and none changes: keys, certificates and images, made once."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.lab.addresses import SITES
from tests.lab.space import PREFIX

BUSYBOX = Path("/bin/busybox")
COMMANDS = ("sh", "nc", "httpd", "sleep", "cat", "echo")
SLOW_LAYER = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Materials:
    """Files under one directory: OCI layouts of the images that are pulled, `app` and the large
    `slow`, and `tools.tar`, which an engine loads without any registry."""

    directory: Path

    def __truediv__(self, name: str) -> Path:
        return self.directory / name

    @property
    def ca(self) -> Path:
        return self / "ca.pem"


def make(directory: Path) -> Materials:
    """Make all of it in an empty directory: about a second."""
    _authority(directory)
    tools = _layer(_tools())
    _image(directory / "app", [tools])
    _image(directory / "tools", [_layer({**_tools(), "tools": b"tools"})])
    _archive(directory / "tools", directory / "tools.tar")
    _image(directory / "slow", [tools, _layer({"random": os.urandom(SLOW_LAYER)})])
    return Materials(directory)


def temporary() -> tempfile.TemporaryDirectory[str]:
    """A directory for materials that goes away by itself."""
    return tempfile.TemporaryDirectory(prefix=f"{PREFIX}{os.getpid()}-materials-")


def _authority(directory: Path) -> None:
    def certificate(name: str, key: str, *more: str) -> None:
        subprocess.run(
            (
                *("openssl", "req", "-x509", "-nodes", "-days", "30", "-newkey", *key.split()),
                *("-keyout", f"{name}.key", "-out", f"{name}.pem"),
                *("-subj", f"/CN=ramfw lab {name}", *more),
            ),
            cwd=directory,
            check=True,
            capture_output=True,
        )

    names = sorted({f"DNS:{site.name}" for site in SITES})
    addresses = sorted({f"IP:{address}" for site in SITES for address in site.addresses if address})
    elliptic = "ec -pkeyopt ec_paramgen_curve:P-256"
    signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-addext", "basicConstraints=CA:FALSE")
    certificate("ca", elliptic, "-addext", "keyUsage=critical,keyCertSign")
    san = "subjectAltName=" + ",".join(names + addresses)
    certificate("server", elliptic, *signed, "-addext", san)
    certificate("tokens", "rsa:2048", *signed)


def _tools() -> Mapping[str, bytes | str]:
    """The files of a minimal system: busybox, its links, and where a mounted /usr will fit."""
    links = {f"bin/{name}": "busybox" for name in COMMANDS}
    return {
        "bin/busybox": BUSYBOX.read_bytes(),
        **links,
        **{name: f"usr/{name}" for name in ("lib", "lib64", "sbin")},
    }


def _archive(layout: Path, archive: Path) -> None:
    """Write an image as `docker load` takes it: engines before 25 know no OCI layouts."""
    subprocess.run(
        (
            *("skopeo", "copy", "--insecure-policy", "--quiet"),
            *(f"oci:{layout}:1", f"docker-archive:{archive}:tools:1"),
        ),
        check=True,
        capture_output=True,
    )


def _layer(files: Mapping[str, bytes | str]) -> bytes:
    """An uncompressed tar; a value that is text is the target of a symbolic link."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            if isinstance(content, str):
                entry.type, entry.linkname = tarfile.SYMTYPE, content
                tar.addfile(entry)
            else:
                entry.size, entry.mode = len(content), 0o755
                tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _image(directory: Path, layers: list[bytes]) -> None:
    """Write an OCI image layout (image-spec, image-layout.md) with the tag `1`."""
    blobs = directory / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def blob(kind: str, data: bytes) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        media = f"application/vnd.oci.image.{kind}"
        return {"mediaType": media, "digest": f"sha256:{digest}", "size": len(data)}

    def document(kind: str, value: Mapping[str, object]) -> dict[str, object]:
        return blob(kind, json.dumps(value).encode())

    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
    diffs = [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]
    config = {
        "architecture": machine,
        "os": "linux",
        "config": {"Cmd": ["sleep", "600"], "Env": ["PATH=/bin:/usr/bin:/usr/sbin"]},
        "rootfs": {"type": "layers", "diff_ids": diffs},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": document("config.v1+json", config),
        "layers": [blob("layer.v1.tar+gzip", gzip.compress(layer, 1)) for layer in layers],
    }
    tagged = document("manifest.v1+json", manifest)
    tagged["annotations"] = {"org.opencontainers.image.ref.name": "1"}
    index = {"schemaVersion": 2, "manifests": [tagged]}
    (directory / "index.json").write_text(json.dumps(index))
    (directory / "oci-layout").write_text(json.dumps({"imageLayoutVersion": "1.0.0"}))
