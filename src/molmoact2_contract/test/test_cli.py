# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The command `molmoact2`: subcommands of packages that are there or not, and exit status."""

import errno

import pytest

from molmoact2_contract import ContractError, cli


class Point:
    """An entry point of another package."""

    def __init__(self, name, register):
        self.name, self._register = name, register

    def load(self):
        if isinstance(self._register, Exception):
            raise self._register
        return self._register


@pytest.fixture
def installed(monkeypatch):
    """Installs subcommands, by name: a function of the arguments, or what loading raises."""

    def install(**given):
        def registering(name, run):
            def register(subparsers):
                parser = subparsers.add_parser(name, help=name)
                parser.add_argument("--times", type=int, default=1)
                parser.set_defaults(func=run)

            return register

        points = [Point(n, x if isinstance(x, Exception) else registering(n, x)) for n, x in given.items()]
        monkeypatch.setattr(cli, "entry_points", lambda group: points if group == "molmoact2.commands" else [])

    return install


def raising(error):
    def run(args):
        raise error

    return run


def test_no_subcommand_is_exit_status_2(installed):
    installed(wave=lambda args: 0)
    with pytest.raises(SystemExit) as exit_info:
        cli.main([])
    assert exit_info.value.code == 2


def test_packages_add_subcommands_and_a_broken_one_is_named(installed, capsys):
    broken = ModuleNotFoundError("No module named 'there.gone'", name="there.gone")
    installed(wave=lambda args: 40 + args.times, broken=ImportError("cannot import x"), lacking=broken)
    assert cli.main(["wave", "--times", "2"]) == 42
    said = capsys.readouterr().err
    assert "'broken' could not be loaded: cannot import x" in said
    assert "'lacking' could not be loaded: No module named 'there.gone'" in said


def test_a_subcommand_whose_package_is_not_there_is_in_the_help_alone(installed, capsys):
    installed(wave=lambda args: 0, infer=ModuleNotFoundError("No module named 'torch'", name="torch"))
    assert cli.main(["wave"]) == 0
    assert capsys.readouterr().err == ""
    with pytest.raises(SystemExit) as exit_info:
        cli.main(["--help"])
    assert exit_info.value.code == 0
    assert "Not on this computer: infer (needs torch). Exit status" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ContractError("so9: no such file"), "error: so9: no such file"),
        (
            ModuleNotFoundError("No module named 'rosbags'", name="rosbags"),
            "error: molmoact2 record needs the Python package rosbags, which is not on this computer; run it where "
            "that is installed (docs/deployment.md)",
        ),
        (
            OSError(errno.ENOSPC, "No space left on device", "out/bag"),
            "error: the disk has no room left for out/bag; make some, or name a folder on another",
        ),
    ],
)
def test_what_was_asked_for_and_cannot_be_is_one_line_and_exit_status_2(installed, capsys, error, words):
    installed(record=raising(error))
    assert cli.main(["record"]) == 2
    assert capsys.readouterr().err == words + "\n"


@pytest.mark.parametrize("error", [ZeroDivisionError(), ModuleNotFoundError("No module named 'a.b'", name="a.b")])
def test_anything_unexpected_is_exit_status_1_with_its_traceback(installed, capsys, error):
    installed(crash=raising(error))
    assert cli.main(["crash"]) == 1
    assert type(error).__name__ in capsys.readouterr().err


def test_ctrl_c_is_exit_status_130(installed):
    installed(wait=raising(KeyboardInterrupt()))
    assert cli.main(["wait"]) == 130
