"""The programs of Kubernetes, built from the Go module beside this file, and the images that tests need.

Everything lands in target/kube and is built again only when go.mod, go.sum or what an image is made of changed.
"""

import gzip
import hashlib
import io
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
REPO = HERE.parent.parent
CACHE = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", REPO / "target")) / "kube"
BIN = CACHE / "bin"
IMAGES = CACHE / "images"

VERSION = "v1.35.4"  # as in go.mod
AGNHOST = "registry.k8s.io/e2e-test-images/agnhost:2.59"  # what the suite of this version asks for
PAUSE = "registry.k8s.io/pause:3.10"
PROBE = "docker.io/library/probe:lab"
DNS = "docker.io/library/coredns:lab"
PRODUCT = ["margay-controller", "margay-felix", "margay-cni", "margayctl"]
PRODUCT_TAG = "margay.io/margay:v0.1.0"  # as in the manifest
APPLETS = ["cat", "echo", "env", "grep", "head", "hostname", "ls", "mkdir", "ping", "seq", "sleep", "sort", "test", "timeout", "tr", "true", "uniq"]
# What specs call that busybox has not, or not with these options: from this machine, with their libraries.
BORROWED = {"curl": "curl", "nc": "nc.openbsd", "sh": "dash"}  # busybox as `sh` would prefer its own nc

CONTROL_PLANE = {
    "etcd": "go.etcd.io/etcd/server/v3",
    "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
    "kubectl": "k8s.io/kubernetes/cmd/kubectl",
}
NODES = {
    "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
    "kube-scheduler": "k8s.io/kubernetes/cmd/kube-scheduler",
    "kubelet": "k8s.io/kubernetes/cmd/kubelet",
    "kube-proxy": "k8s.io/kubernetes/cmd/kube-proxy",
    "agnhost": "k8s.io/kubernetes/test/images/agnhost",
}
SUITE = {"e2e.test": "k8s.io/kubernetes/test/e2e"}
# Command that must exist for a cluster with nodes, and the Debian package that has it.
NEEDS = {
    "containerd": "containerd",
    "runc": "runc",
    "buildah": "buildah",
    "nft": "nftables",
    "busybox": "busybox-static",
    "curl": "curl",
    "nc.openbsd": "netcat-openbsd",
    "ip": "iproute2",
    "conntrack": "conntrack",
    "openssl": "openssl",
    "nsenter": "util-linux",
}


class Missing(Exception):
    """Something is not installed; the text says what."""


def require(commands):
    """Says which Debian packages are missing."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    missing = sorted({package for command, package in commands.items() if not shutil.which(command, path=path)})
    if missing:
        raise Missing(f"missing packages (Debian names): {' '.join(missing)}")


def kubernetes(programs):
    """Builds those of `programs` (name → package) that are not there; returns their folder."""
    stamp = digest([HERE / "go.mod", HERE / "go.sum"])
    BIN.mkdir(parents=True, exist_ok=True)
    absent = {name: package for name, package in programs.items() if read(BIN / f".{name}") != stamp or not (BIN / name).exists()}
    if not absent:
        return BIN
    enough_go()
    version = "k8s.io/component-base/version"
    major, minor, _ = VERSION[1:].split(".")
    flags = f"-s -w -X {version}.gitVersion={VERSION} -X {version}.gitMajor={major} -X {version}.gitMinor={minor}"
    suites = [name for name in absent if name.endswith(".test")]
    others = [name for name in absent if name not in suites]
    with tempfile.TemporaryDirectory(dir=BIN) as beside:
        # In one command, so that one program is linked while another is compiled.
        for verb, names in [(["build"], others), *[(["test", "-c"], [name]) for name in suites]]:
            if names:
                go(verb, names, [absent[name] for name in names], beside, flags)
        for name in absent:
            made = "server" if name == "etcd" else name  # Go names a program after the last word of its package
            (pathlib.Path(beside) / made).rename(BIN / name)
            (BIN / f".{name}").write_text(stamp)
    return BIN


def go(verb, names, packages, folder, flags):
    """Builds packages of Kubernetes as programs without debug information into a folder."""
    started = time.monotonic()
    print(f"building {', '.join(names)} of Kubernetes {VERSION} …", end="", flush=True, file=sys.stderr)
    command = ["nice", "-n", "12", "go", *verb, "-trimpath", "-gcflags=all=-dwarf=false", "-ldflags", flags, "-o", f"{folder}/", *packages]
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly"}
    # Go asks its proxy once for each of hundreds of modules; what it has by then it keeps.
    if not any(subprocess.run(command, cwd=HERE, env=environment).returncode == 0 for _ in range(3)):
        raise Missing(f"{', '.join(names)} of Kubernetes cannot be built: see above")
    print(f" {time.monotonic() - started:.0f} s", file=sys.stderr)


def enough_go():
    """Says so if there is no Go that can build them, or fetch one that can."""
    asked = "install Go 1.25 or newer (https://go.dev/dl)"
    if not shutil.which("go"):
        raise Missing(f"no `go`: {asked}")
    done = subprocess.run(["go", "version"], cwd=HERE, capture_output=True, text=True)
    version = re.search(r"go1\.(\d+)", done.stdout)
    if done.returncode or not version or int(version[1]) < 25:
        raise Missing(f"{(done.stdout + done.stderr).strip()}: {asked}")


def test_images():
    """agnhost, and the pause image, as archives that containerd imports. agnhost itself would do for a pause, and take thirty times the memory and start."""
    kubernetes({"agnhost": NODES["agnhost"]})
    files = {"agnhost": BIN / "agnhost", "bin/busybox": busybox(), "bin/wget": HERE / "images/wget"}
    for name, program in BORROWED.items():
        files |= borrowed(f"bin/{name}", pathlib.Path(shutil.which(program)).resolve())
    applets = {f"bin/{name}": "busybox" for name in APPLETS}
    return [
        image("agnhost", HERE / "images/agnhost.Containerfile", files, AGNHOST, applets),
        image("pause", HERE / "images/pause.Containerfile", {"busybox": busybox()}, PAUSE),
    ]


def busybox():
    """The machine's own, which is static."""
    return pathlib.Path(shutil.which("busybox", path="/bin:/usr/bin:/usr/sbin"))


def probe():
    """The image of the program that measures and watches from inside pods."""
    return small("probe", REPO / "tests/bench/kube/probe", PROBE)


def dns():
    """The image of the cluster's DNS."""
    return small("coredns", HERE / "dns", DNS)


def small(name, source, tag):
    """The image of a Go module of ours that is one program."""
    BIN.mkdir(parents=True, exist_ok=True)
    binary = BIN / name
    environment = {**os.environ, "CGO_ENABLED": "0"}
    subprocess.run(["go", "build", "-trimpath", "-ldflags", "-s -w", "-o", str(binary), "."], cwd=source, env=environment, check=True)
    return image(name, source / "Containerfile", {name: binary}, tag)


def borrowed(place, program):
    """A dynamic program of this machine and the libraries that it loads, by their places in an image."""
    loads = [word for line in quiet(["ldd", str(program)]).splitlines() for word in line.split() if word.startswith("/")]
    return {place: program} | {load.lstrip("/"): pathlib.Path(load).resolve() for load in loads}


def product():
    """Margay's own image, built by `make image`; returns its archive."""
    subprocess.run(["make", "--no-print-directory", "-C", str(REPO), "image"], check=True, stdout=sys.stderr)
    return REPO / "target/image/margay.tar"


def archive(named):
    """The archive of Margay's image that was named, or the one that `make image` builds."""
    if not named:
        return product()
    path = pathlib.Path(named).resolve()
    if not path.is_file():
        raise Missing(f"no image {path}: `make image` writes target/image/margay.tar")
    return path


def debug_product():
    """An image of the programs that `make build` left, with their libraries: no proof of the release, but there at once."""
    require({"strip": "binutils"})
    built = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", REPO / "target")) / "debug"
    small = CACHE / "debug"
    small.mkdir(parents=True, exist_ok=True)
    files = {}
    for name in PRODUCT:
        if not (built / name).exists():
            raise Missing(f"no {built / name}: `make build` makes it")
        # Every node holds the image twice, in memory.
        subprocess.run(["strip", "--strip-debug", "-o", str(small / name), str(built / name)], check=True)
        files |= borrowed(name, small / name)
    return image("margay-debug", REPO / "manifests/Containerfile", files, PRODUCT_TAG)


def product_image(context, tag, archive):
    """The image of a folder of programs."""
    files = {path.name: path for path in sorted(pathlib.Path(context).iterdir())}
    compress(image("margay", REPO / "manifests/Containerfile", files, tag), archive)


def compress(archive, to):
    """Copies an image's archive with its layers compressed, as a registry has them. What loads archives takes both."""
    beside = pathlib.Path(f"{to}.{os.getpid()}")
    with tarfile.open(archive) as source, tarfile.open(beside, "w", format=tarfile.GNU_FORMAT) as target:
        layers = {layer for each in json.load(source.extractfile("manifest.json")) for layer in each["Layers"]}
        for member in source:
            content = source.extractfile(member) if member.isreg() else None
            if member.name in layers and content:
                octets = gzip.compress(content.read(), 9, mtime=0)
                member.size, content = len(octets), io.BytesIO(octets)
            target.addfile(member, content)
    beside.rename(to)


def taken(archive, name, folder):
    """Takes a program out of an image's archive; its path in the folder."""
    with tarfile.open(archive) as whole:
        layers = [layer for each in json.load(whole.extractfile("manifest.json")) for layer in each["Layers"]]
        for layer in layers:
            with tarfile.open(fileobj=whole.extractfile(layer)) as files:
                if name in files.getnames():
                    files.extract(name, folder, filter="data")
                    return pathlib.Path(folder) / name
    raise Missing(f"no {name} in {archive}")


def image(name, containerfile, files, tag, links=None):
    """Builds an image of files and links by buildah, without a registry, and returns its archive."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    archive = IMAGES / f"{name}.tar"
    stamp = digest([containerfile, *files.values()]) + tag
    if read(IMAGES / f".{name}") == stamp and archive.exists():
        return archive
    context = IMAGES / f"{name}.context"
    shutil.rmtree(context, ignore_errors=True)
    context.mkdir()
    for target, source in files.items():
        (context / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, context / target)
    for link, target in (links or {}).items():
        (context / link).symlink_to(target)
    storage = ["--root", str(IMAGES / "storage"), "--runroot", str(IMAGES / "storage-run"), "--storage-driver", "vfs"]
    try:
        quiet(["buildah", *storage, "bud", "--isolation", "chroot", "--timestamp", "0", "-f", str(containerfile), "-t", tag, str(context)])
        archive.unlink(missing_ok=True)
        quiet(["buildah", *storage, "push", tag, f"docker-archive:{archive}:{tag}"])
    finally:
        shutil.rmtree(context, ignore_errors=True)
        quiet(["buildah", *storage, "rmi", "--all", "--force"], check=False)
    (IMAGES / f".{name}").write_text(stamp)
    return archive


def quiet(command, check=True):
    """Runs a command whose output matters only if it fails."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}")
    return done.stdout


def digest(files):
    total = hashlib.sha256()
    for path in files:
        with open(path, "rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def read(path):
    try:
        return path.read_text()
    except OSError:
        return None
