# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The ROS path's arithmetic on times that are known, and what it runs on. A whole run is part of test_bench.py."""

import re
import socket
from dataclasses import replace

import pytest

from molmoact2_bringup.bench import ros_path
from molmoact2_bringup.bench.passage import WARM_UP, Arrival, Chunk, figures, passages
from molmoact2_bringup.bench.report import of_ros_paths
from molmoact2_contract import load_contract

MS = 1_000_000


def chunk(number: int, late: int = 0) -> tuple[Chunk, dict[int, Arrival]]:
    """A chunk every 100 ms: carried 4, taken 1, read 3, model 20, rest 2 + late [ms]."""
    sent = 1_000_000 * MS + number * 100 * MS
    started = sent + 8 * MS
    finished = started + (22 + late) * MS
    found = Chunk(sent, started, finished - MS, finished, model=0.020)
    return found, {sent: Arrival(sent + 4 * MS, sent + 5 * MS)}


def run(lates: list[int]) -> tuple[list[Chunk], dict[int, Arrival]]:
    chunks, arrivals = [], {}
    for number, late in enumerate([0] * WARM_UP + lates):
        made, arrived = chunk(number, late)
        chunks.append(made)
        arrivals |= arrived
    return chunks, arrivals


def test_the_passage_of_a_chunk_is_from_the_newest_images_arrival_to_publishing_less_the_model():
    found, busy = passages(*run([0]))
    (passage,) = found
    parts = (passage.carried, passage.taken, passage.read, passage.model, passage.rest)
    assert parts == pytest.approx((0.004, 0.001, 0.003, 0.020, 0.002))
    assert passage.added == pytest.approx(0.006) and busy == 0


def test_an_image_that_waited_for_the_model_is_counted_apart_and_the_order_of_hearing_does_not_matter():
    chunks, arrivals = run([0, 80, 0, 0])
    assert [len(found) for found in (passages(chunks, arrivals)[0], passages(chunks[::-1], arrivals)[0])] == [3, 3]
    assert passages(chunks, arrivals)[1] == 1


def test_half_and_all_but_a_twentieth_of_the_chunks_stay_below_the_figures_of_the_report():
    path = figures("raw", *run(list(range(41))))
    assert path.times["added"] == pytest.approx((0.026, 0.044))
    assert (path.count, path.busy) == (41, 0)
    rows = [line.split(" | ") for line in of_ros_paths([path]).splitlines() if line.startswith("| raw")]
    assert [row[2:5] for row in rows] == [["26.0", "1.0", "3.0"], ["44.0", "1.0", "3.0"]]


def test_where_every_image_waited_for_the_model_there_is_no_figure_but_words():
    chunks, arrivals = run([0])
    late = [replace(chunk, finished_ns=chunk.finished_ns + 80 * MS) for chunk in chunks]
    with pytest.raises(RuntimeError, match="all waited for the model"):
        figures("raw", late, arrivals)


def test_a_domain_in_which_somebody_listens_is_not_taken():
    first = ros_path.free_domain()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as somebody:
        somebody.bind(("127.0.0.1", 7410 + 250 * first))
        assert ros_path.free_domain() != first


@pytest.mark.parametrize("transport", ros_path.TRANSPORTS)
def test_the_contract_is_that_of_the_robot_but_for_the_transport_of_images(transport, tmp_path):
    given = load_contract(ros_path.CONTRACT)
    made = load_contract(ros_path.write_contract(transport, tmp_path / "robot.yaml"))
    assert made.joint_names == given.joint_names and made.norm_tag(ros_path.TAG) == given.norm_tag(ros_path.TAG)
    for name, camera in made.cameras.items():
        assert camera.transport == transport
        assert re.fullmatch(rf"{given.cameras[name].topic}(/compressed)?", camera.topic)
