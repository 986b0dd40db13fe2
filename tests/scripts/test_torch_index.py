"""Builds of torch for the CPU are really installed from the place that is named: tiny wheels on a local server.

The usual index has the builds with CUDA, which need a package of NVIDIA's, as the real one does. The other index has
those for the CPU and, as PyTorch's own, an old version of a package that the usual one has as well.
"""

import functools
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote

import pytest

from .house import bootstrap, environment, free_space, torch_builds

PINS = {"torch": "2.11.0", "torchvision": "0.26.0", "plain": "2.0"}


def add_wheel(index, name, version, *requires):
    """A wheel without any code, and its line on the page of its name."""
    page, info = index / name, f"{name}-{version}.dist-info"
    page.mkdir(parents=True, exist_ok=True)
    file = f"{name}-{version}-py3-none-any.whl"
    metadata = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    metadata += [f"Requires-Dist: {requirement}" for requirement in requires]
    contents = {
        f"{info}/METADATA": "\n".join(metadata) + "\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    contents[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*contents, f"{info}/RECORD"])
    with zipfile.ZipFile(page / file, "w") as archive:
        for path, text in contents.items():
            archive.writestr(path, text)
    with open(page / "index.html", "a", encoding="utf-8") as html:
        html.write(f'<a href="{quote(file)}">{file}</a>\n')


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The address of a server with the folders ``usual`` and ``cpu``, each an index in the simple form."""
    folder = tmp_path_factory.mktemp("server")
    usual, cpu = folder / "usual", folder / "cpu"
    add_wheel(usual, "torch", "2.11.0", "nvidia-cudnn")
    add_wheel(usual, "torchvision", "0.26.0", "torch==2.11.0")
    add_wheel(usual, "nvidia-cudnn".replace("-", "_"), "9.0")
    (usual / "nvidia_cudnn").rename(usual / "nvidia-cudnn")
    add_wheel(usual, "plain", "2.0")
    add_wheel(cpu, "torch", "2.11.0+cpu")
    add_wheel(cpu, "torchvision", "0.26.0+cpu", "torch==2.11.0")
    add_wheel(cpu, "plain", "1.0")
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder)) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


@pytest.fixture
def project(tmp_path, server, monkeypatch):
    """A project that needs torch, torchvision and one more package, on a machine that knows the usual index only."""
    pins = "".join(f"{name}=={version}\n" for name, version in PINS.items())
    (tmp_path / "constraints.txt").write_text(pins, encoding="utf-8")
    (tmp_path / "constraints-cuda.txt").write_text("nvidia-cudnn==9.0\n", encoding="utf-8")
    (tmp_path / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["torch>=2.11"]\n[project]\ndependencies = ["torchvision>=0.26", "plain"]\n',
        encoding="utf-8",
    )
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_"))]:
        monkeypatch.delenv(name)
    settings = {"PIP_INDEX_URL": f"{server}/usual", "PIP_CONFIG_FILE": os.devnull, "PIP_NO_CACHE_DIR": "1"}
    settings |= {"UV_DEFAULT_INDEX": f"{server}/usual", "UV_NO_CONFIG": "1", "UV_NO_CACHE": "1"}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", "linux")
    free_space(monkeypatch, 100)
    return tmp_path


def installed(project, torch, index):
    """Names and versions in ``.venv`` after an installation, without pip."""
    venv = project / ".venv"
    bootstrap.install_packages(project, venv, torch, index)
    found = (
        path.name.removesuffix(".dist-info")
        for folder in environment.site_packages(venv)
        for path in folder.glob("*.dist-info")
    )
    return sorted(name for name in found if not name.startswith(("pip-", "setuptools-")))


FOR_THE_CPU = ["plain-2.0", "torch-2.11.0+cpu", "torchvision-0.26.0+cpu"]


def test_pip_takes_both_from_there_and_the_rest_from_the_usual_place_and_the_way_back(project, server):
    subprocess.run([sys.executable, "-m", "venv", project / ".venv"], check=True)
    assert installed(project, "cpu", f"{server}/cpu") == FOR_THE_CPU
    torch_builds.remove(project, project / ".venv")
    with_cuda = ["nvidia_cudnn-9.0", "plain-2.0", "torch-2.11.0", "torchvision-0.26.0"]
    assert installed(project, "default", None) == with_cuda


def test_uv_does_the_same_in_an_environment_of_its_own(project, server):
    if not shutil.which("uv"):
        pytest.skip("uv is not here")
    subprocess.run(["uv", "venv", "--quiet", "--python", sys.executable, project / ".venv"], check=True)
    assert installed(project, "cpu", f"{server}/cpu") == FOR_THE_CPU
