# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The fingerprint of a checkpoint."""

import os
import shutil
import subprocess

import pytest

from molmoact2_model import fingerprint


@pytest.fixture
def checkpoint(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(bytes(range(256)) * 100)
    (folder / "notes.txt").write_text("not a part of it")
    return folder


def test_it_is_what_sha256sum_gives(checkpoint):
    command = "LC_ALL=C sha256sum *.json *.safetensors | sort -k 2 | sha256sum"
    said = subprocess.run(command, shell=True, cwd=checkpoint, capture_output=True, text=True, check=True).stdout
    assert fingerprint(checkpoint) == said.split()[0]


def test_it_goes_with_the_files_and_not_with_their_place(checkpoint, tmp_path):
    before = fingerprint(checkpoint)
    shutil.copytree(checkpoint, tmp_path / "copy")
    assert fingerprint(tmp_path / "copy") == before
    (checkpoint / "notes.txt").write_text("changed")
    assert fingerprint(checkpoint) == before
    (checkpoint / "config.json").write_text('{"a": 1}')
    assert fingerprint(checkpoint) != before


def test_a_file_is_read_once_until_it_changes(checkpoint):
    file = checkpoint / "model.safetensors"
    before, state = fingerprint(checkpoint), file.stat()
    file.write_bytes(bytes(len(file.read_bytes())))
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))    # what the cache goes by is as it was
    assert fingerprint(checkpoint) == before
    os.utime(file)
    assert fingerprint(checkpoint) != before


def test_a_cache_that_is_damaged_or_cannot_be_written_costs_nothing_but_time(checkpoint, tmp_path, monkeypatch):
    before = fingerprint(checkpoint)
    cache = tmp_path / "cache/molmoact2/fingerprints.json"
    cache.write_text("{")
    assert fingerprint(checkpoint) == before
    monkeypatch.setenv("XDG_CACHE_HOME", str(checkpoint / "config.json"))
    assert fingerprint(checkpoint) == before
