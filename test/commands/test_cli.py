"""The command line as a user meets it: real processes, exit codes, one line on stderr."""

import errno
import os
import subprocess
import sys

import pytest

from support.bags import drive, write
from vps_ros.commands.main import COMMANDS, main


def vps_ros(*args: str, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "vps_ros.commands.main", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, **options)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_with_examples(name, capsys):
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert "examples:" in shown
    assert f"vps-ros {name}" in shown.split("examples:")[1]


def test_a_process_lists_the_commands():
    run = vps_ros("--help")
    assert run.returncode == 0
    for name in COMMANDS:
        assert name in run.stdout


def test_an_unknown_command_exits_with_2():
    run = vps_ros("reply")
    assert run.returncode == 2
    assert "reply" in run.stderr
    assert run.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["live"], ["vps-ros live: ", "--image", "--help"]),
        (["play", "drive.mcap", "--wait", "x"], ["--wait", "'x'"]),
        (["replay", "drive.mcap", "-o", "out.mcap", "--tracker-of-mine"], ["--tracker-of-mine"]),
    ],
)
def test_arguments_that_do_not_fit_are_one_line_and_exit_2(arguments, words, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    for word in words:
        assert word in shown


def test_two_outputs_of_one_path_are_refused(tmp_path, capsys):
    """The second would silently replace the first."""
    bag, output = write(tmp_path / "bag", drive(1)), tmp_path / "out.mcap"
    same = tmp_path / "folder" / ".." / "out.mcap"
    (tmp_path / "folder").mkdir()
    assert main(["replay", str(bag), "-o", str(output), "--json", str(same)]) == 2
    shown = capsys.readouterr().err
    assert "given for --output and for --json" in shown
    assert not output.exists()


def test_a_full_disk_names_the_copy_and_not_its_source(tmp_path, capsys, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device", "source.onnx", None, "copy.onnx")

    monkeypatch.setattr("vps_ros.commands.inspect.run", fail)
    assert main(["inspect", str(tmp_path)]) == 2
    assert capsys.readouterr().err.strip() == "vps-ros: disk full while writing copy.onnx; free some space"


def test_a_folder_where_a_file_is_expected_is_refused_before_any_work(tmp_path, capsys):
    (tmp_path / "folder.mp4").mkdir()
    bag = write(tmp_path / "bag", drive(1))
    for flag in ("--json", "--overlay"):
        outputs = ["-o", str(tmp_path / "out.mcap"), flag, str(tmp_path / "folder.mp4")]
        assert main(["replay", str(bag), *outputs]) == 2
        shown = capsys.readouterr().err
        assert "folder.mp4: is a folder; give the name of a file" in shown
        assert shown.count("\n") == 1
    assert not (tmp_path / "out.mcap").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--thing-threshold", "high"], "--thing-threshold: 'high' is not of type float"),
        (["--thing-threshold", "3"], "thing_threshold: 3.0 is outside -1..1"),
        (["--allow-fallback", "maybe"], "--allow-fallback: 'maybe' is not true or false"),
        (["--tracker", "magic"], "tracker: 'magic' is not one of"),
        (["--config", "absent.yaml"], "absent.yaml: no such file"),
    ],
)
def test_a_bad_parameter_is_one_line_and_exit_2(flags, words, capsys):
    assert main(["replay", "drive.mcap", "-o", "out.mcap", *flags]) == 2
    shown = capsys.readouterr().err.strip()
    assert words in shown
    assert "\n" not in shown


def test_any_name_goes_with_any_locale(tmp_path):
    bag = write(tmp_path / "Straße", drive(1, "/caméra/Bild-1 x"))
    (tmp_path / "größe.yaml").write_text("threads: 1  # weiß", encoding="utf-8")
    plain = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
    for command in (
        ["inspect", bag],
        ["replay", bag, "-o", tmp_path / "ü.mcap", "--config", tmp_path / "größe.yaml"],
    ):
        run = vps_ros(*command, env=plain)
        assert run.returncode == 0, run.stderr
    assert (tmp_path / "ü.mcap").exists()


def test_nobody_needs_to_listen(tmp_path):
    bag = write(tmp_path / "bag", drive(1))
    command = f'"{sys.executable}" -m vps_ros.commands.main inspect "{bag}"'
    for redirected in (">&-", ">&- 2>&-", "| true"):
        run = subprocess.run(["bash", "-c", f"set -o pipefail; {command} {redirected}"], capture_output=True, text=True)
        assert run.returncode == 0, (redirected, run.stderr)
        assert "Traceback" not in run.stderr
