"""The commands of guide and README exist with every option; what sets containers up names what is there."""

import json
import re
import shlex
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from dyhead_lab import cli

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "guide").glob("*.md"))]


def commands(text: str) -> list[list[str]]:
    """The words behind ``dyhead-lab`` or ``dyhead_lab.cli`` of every such line in a block of bash."""
    found = []
    for block in re.findall(r"```(?:bash)?\n(.*?)```", text, re.DOTALL):
        for line in block.splitlines():
            start = re.match(r"\s*(?:accelerate launch .* -m dyhead_lab\.cli|dyhead-lab) (.*)", line)
            found += (
                [shlex.split(part, comments=True) for part in re.split(r"&& dyhead-lab ", start[1])] if start else []
            )
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_command_has_the_options_that_stand_there(page, monkeypatch):
    for words in commands(page.read_text(encoding="utf-8")):
        if words[0] in cli.COMMANDS:
            module = import_module(cli.COMMANDS[words[0]][0])
            monkeypatch.setattr(module, "run", lambda args: 0)
            assert cli.main(words) == 0, words


def test_pages_have_commands_and_links_that_lead_somewhere():
    assert sum(len(commands(page.read_text(encoding="utf-8"))) for page in PAGES) > 30
    for page in PAGES:
        for link in re.findall(r"\]\((?!http)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_containers_are_set_up_by_the_one_script():
    docker = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    devcontainer = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))
    assert f" AS {devcontainer['build']['target']}\n" in docker
    for line in (*re.findall(r"RUN (python .*)", docker), devcontainer["postCreateCommand"]):
        assert line.startswith("python scripts/bootstrap.py setup --torch")


def test_binder_can_start_the_container_as_its_own_user():
    """repo2docker takes the Dockerfile, names the user by build arguments, and starts ``jupyter notebook`` there."""
    docker = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    stages = docker.split("FROM ")[1:]
    assert not [stage for stage in stages if stage.split()[0].endswith(":latest")]
    assert {"ARG NB_USER=reader", "ARG NB_UID=1000"} <= set(docker.splitlines()) and "ENTRYPOINT" not in docker
    assert re.findall(r"^USER (.*)", stages[-1], re.MULTILINE) == ["${NB_USER}"] and "ARG NB_USER" in stages[-1]
    assert not [ROOT / name for name in ("binder", ".binder") if (ROOT / name).exists()], "it would be taken instead"
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert [text for text in extras["test"] if text.startswith("notebook")], "the set-up installs all extras"


def test_the_slurm_file_starts_what_accelerate_understands():
    from accelerate.commands.launch import launch_command_parser

    text = (ROOT / "guide" / "train.slurm").read_text(encoding="utf-8")
    call = re.search(r"accelerate launch (.*?)\n'", text, re.DOTALL)
    assert call
    words = shlex.split(call[1].replace("\\\n", " "))
    numbers = {
        "$SLURM_NNODES": "2",
        "$SLURM_NODEID": "1",
        "$((SLURM_NNODES": "16",
        "$HEAD": "node1",
        "$@": "atss_r50_dyhead",
    }
    given = [numbers.get(word, word) for word in words if word not in ("*", "SLURM_GPUS_ON_NODE))")]
    found = launch_command_parser().parse_args(given)
    assert (found.multi_gpu, found.num_machines, found.machine_rank, found.num_processes) == (True, 2, 1, 16)
    assert (found.main_process_ip, found.module, found.training_script) == ("node1", True, "dyhead_lab.cli")
    assert found.training_script_args == ["train", "atss_r50_dyhead"]
