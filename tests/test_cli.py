"""The command line: commands are found, mistakes are told without a traceback."""

import errno
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest

from dyhead_lab import __version__, cli
from dyhead_lab.commands.evaluated import refuse_missing
from dyhead_lab.errors import UserError


@pytest.fixture
def command(monkeypatch):
    """Put a command of its own into the table; returns a function that sets what its ``run`` does."""
    module = SimpleNamespace(add_arguments=lambda parser: parser.add_argument("--size", type=int, default=1))
    monkeypatch.setitem(sys.modules, "test_command", module)
    monkeypatch.setattr(cli, "COMMANDS", {"try": ("test_command", "try something")})

    def behave(run):
        module.run = run

    return behave


def raising(exception):
    def run(args):
        raise exception

    return run


def test_a_command_gets_its_arguments_and_gives_the_status(command):
    command(lambda args: args.size)
    assert cli.main(["try", "--size", "7"]) == 7


def test_a_mistake_of_the_user_is_told_in_one_line(command, capsys):
    command(raising(UserError("no file x.json: name one that exists")))
    assert cli.main(["try"]) == 1
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "dyhead-lab try: no file x.json: name one that exists\n")


def test_an_interrupt_ends_quietly(command, capsys):
    command(raising(KeyboardInterrupt()))
    assert cli.main(["try"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_a_reader_who_has_enough_ends_the_command_quietly():
    """As ``dyhead-lab zoo | head -1`` does: the pipe is closed before everything is written."""
    code = "import sys; from dyhead_lab.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "zoo"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141


def test_a_broken_pipe_elsewhere_is_a_bug_like_others(command):
    command(raising(BrokenPipeError()))
    with pytest.raises(BrokenPipeError):
        cli.main(["try"])


def test_the_package_runs_as_a_module():
    command = [sys.executable, "-m", "dyhead_lab", "--version"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == f"dyhead-lab {__version__}\n"


def test_output_that_was_closed_leads_to_nowhere(command, monkeypatch):
    """As after ``dyhead-lab zoo >&- 2>&-``, and in programs without a console on Windows."""
    command(lambda args: print("out") or print("err", file=sys.stderr) or 0)
    for stream in ("stdout", "stderr"):
        monkeypatch.setattr(sys, stream, None)
    assert cli.main(["try"]) == 0
    assert sys.stdout is not None  # what writes to it by its methods, as a progress bar does, can


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device that is always full")
def test_output_onto_a_full_disk_is_told_in_one_line(command, monkeypatch, capsys):
    command(lambda args: print("x" * 100_000) or 0)
    with open("/dev/full", "w", encoding="utf-8") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert cli.main(["try"]) == 1
    assert capsys.readouterr().err == "dyhead-lab: cannot write the output: No space left on device\n"


def test_a_full_disk_is_told_in_one_line_wherever_it_is_met(command, capsys):
    command(raising(OSError(errno.ENOSPC, "No space left on device", "from/a.png", None, "to/a.png")))
    assert cli.main(["try"]) == 1
    assert capsys.readouterr().err == "dyhead-lab try: cannot write to/a.png: No space left on device\n"
    command(raising(FileNotFoundError(errno.ENOENT, "No such file or directory", "a.png")))
    with pytest.raises(FileNotFoundError):
        cli.main(["try"])


def test_a_bug_keeps_its_traceback(command):
    command(raising(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        cli.main(["try"])


@pytest.mark.parametrize(("share", "before", "expected"), [(2, None, "2"), (16, None, None), (2, "4", "4")])
def test_a_container_computes_with_as_many_threads_as_it_gets(command, monkeypatch, share, before, expected):
    """torch would take one for each of the 16 processors that it sees."""
    monkeypatch.setattr(cli, "bound_processors", lambda: 16)
    monkeypatch.setattr(cli, "processors", lambda: share)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if before:
        monkeypatch.setenv("OMP_NUM_THREADS", before)
    command(lambda args: int(os.environ.get("OMP_NUM_THREADS") != expected))
    assert cli.main(["try"]) == 0
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


@pytest.mark.parametrize("argv", [[], ["dance"], ["try", "--size", "big"]])
def test_wrong_usage_ends_with_status_2(command, argv):
    with pytest.raises(SystemExit) as end:
        cli.main(argv)
    assert end.value.code == 2


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_explains_itself(name, capsys):
    module = import_module(cli.COMMANDS[name][0])
    assert callable(module.run)
    with pytest.raises(SystemExit) as end:
        cli.main([name, "--help"])
    assert end.value.code == 0
    assert f"usage: dyhead-lab {name}" in capsys.readouterr().out


#: Runs the command line and says what stayed unknown to Python meanwhile.
LIGHT = """
import sys
from dyhead_lab.cli import main
try:
    status = main(sys.argv[1:])
except SystemExit as end:
    status = end.code
print(status, sorted({"torch", "torchvision", "matplotlib"} & set(sys.modules)))
"""


def light(*words):
    """Run a command in a process of its own: all it printed, and its last line, ``status [heavy modules]``."""
    done = subprocess.run([sys.executable, "-c", LIGHT, *words], capture_output=True, text=True, check=True)
    return done.stdout + done.stderr, done.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    "words", [["--version"], ["--help"], *([name, "--help"] for name in cli.COMMANDS)], ids=" ".join
)
def test_help_and_version_load_nothing_heavy(words):
    """They answer at once: importing torch takes seconds."""
    told, end = light(*words)
    assert end == "0 []" and (__version__ in told or "usage: dyhead-lab" in told)


@pytest.mark.parametrize(("words", "row"), [("zoo", "sparse_detr_r50_rho30"), ("weights", "facebook/detr-resnet-50")])
def test_lists_load_nothing_heavy(words, row):
    told, end = light(words)
    assert end == "0 []" and row in told


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("eval nowhere", "no weights at nowhere: expected a weights file, a run folder"),
        ("errors nowhere", "no weights at nowhere"),
        ("errors quickstart --score 2", "--score: got 2.0"),
        ("detect nowhere.jpg", "image not found: nowhere.jpg"),
        ("detect README.md --weights nowhere", "no weights at nowhere"),
        ("compare nowhere", "nowhere: expected a run folder"),
        ("train quikstart", "no recipe 'quikstart'; did you mean quickstart?"),
        ("train quickstart --data nowhere", "data folder not found: nowhere"),
        ("zoo nothing", "no recipe 'nothing'; `dyhead-lab zoo` lists what there is"),
        ("efficiency quikstart", "Nearest names: quickstart"),
        ("look nowhere.jpg", "image not found: nowhere.jpg"),
        ("train quickstart --set lr", "--set lr: expected KEY=VALUE"),
        ("train nothing.py", "nothing.py: no such file"),
        ("eval quickstart --data nowhere", "data folder not found: nowhere"),
        ("errors quickstart --data nowhere", "data folder not found: nowhere"),
        ("eval quickstart --import nothing.py", "dyhead-lab eval: nothing.py: no such file"),
        ("data yolo --yolo nowhere --out .", "YOLO folder not found: nowhere"),
        ("data split --data nowhere --out .", "data folder not found: nowhere"),
        ("experiment ablatoin", "no experiment 'ablatoin'; did you mean ablation?"),
        ("experiment nothing", "no experiment 'nothing'; there are ablation, "),
        ("experiment nothing.py", "nothing.py: no such file"),
        ("experiment ablation --show --seeds 1", "it takes no other option"),
        ("bench train quikstart", "no recipe and no weights 'quikstart'"),
        ("bench loader quickstart --data nowhere", "data folder not found: nowhere"),
        ("efficiency quickstart --size big", "--size: expected HEIGHTxWIDTH"),
        ("bench ops --out .", "--out .: expected a file to write, but it is a folder"),
    ],
)
def test_a_mistake_in_the_arguments_is_told_before_anything_heavy_is_loaded(words, message):
    told, end = light(*words.split())
    assert end == "1 []" and message in told


def test_what_is_shipped_stands_in_the_message_about_missing_weights():
    with pytest.raises(UserError, match="deformable_detr_tiny, detr_tiny, everyday, quickstart, sparse_detr_tiny"):
        refuse_missing("nowhere")
    refuse_missing("quickstart")


def test_a_recipes_figure_is_promised_for_its_own_settings_only():
    from dyhead_lab import zoo
    from dyhead_lab.commands.train import expectation

    recipe = zoo.get("quickstart")
    assert expectation(recipe, None, changed=False) == recipe.expected
    assert expectation(recipe, None, changed=True) == f"no figure for these settings; with its own: {recipe.expected}"
    assert expectation(recipe, Path("mine"), changed=False).startswith("no figure for mine")
