# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
import os
import subprocess
import sys

from molmoact2_contract.users import users_of


def test_another_process_that_has_a_device_open_is_named_also_through_a_link_and_this_one_is_not(tmp_path):
    device, link = tmp_path / "device", tmp_path / "link"
    device.touch()
    link.symlink_to(device)
    code = f"file = open({str(device)!r}); print(flush=True); input()"
    with open(device), subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1, text=True) as other:
        other.stdout.readline()
        users = users_of(link)
        other.communicate("\n")
    assert len(users) == 1 and users[0].endswith(f"(process {other.pid})")
    assert users_of(link) == []


def test_a_process_that_may_not_be_looked_at_is_passed_over(tmp_path):
    device = tmp_path / "device"
    device.touch()
    for number, name in (("1", "sees"), ("2", "")):
        (tmp_path / f"proc/{number}").mkdir(parents=True)
        if name:
            (tmp_path / f"proc/{number}/comm").write_text(f"{name}\n")
            (tmp_path / f"proc/{number}/fd").mkdir()
            os.symlink(device, tmp_path / f"proc/{number}/fd/3")
    assert users_of(device, tmp_path) == ["sees (process 1)"]
