# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Who waits for the engine, and who is not waited for."""

import threading

import pytest
from served import PATIENCE, Held

from molmoact2_model.serving.engine_thread import MOST_REMEMBERED, EngineThread, NotRun


def test_more_than_may_wait_are_refused_at_once_and_at_the_end_all_are():
    engine = EngineThread(most_waiting=2)
    held = Held(engine)
    first, second, third = (engine.submit(None, n, lambda: "done", PATIENCE) for n in range(3))
    with pytest.raises(NotRun) as refused:
        third.result(PATIENCE)
    assert refused.value.code == "busy"
    second.cancel()
    fourth = engine.submit(None, 4, lambda: "done", PATIENCE)
    older = engine.submit("a", 6, lambda: "done", PATIENCE)
    assert isinstance(older.exception(PATIENCE), NotRun)
    closing = threading.Thread(target=engine.close)
    closing.start()
    for future in (first, fourth):
        assert future.exception(PATIENCE).code == "stopping"
    held.release()
    closing.join(PATIENCE)
    assert engine.submit(None, 5, lambda: "done", PATIENCE).exception(PATIENCE).code == "stopping"


def test_a_request_that_arrived_earlier_does_not_take_the_place_of_a_newer_one():
    engine = EngineThread()
    held = Held(engine)
    newer = engine.submit("a", 2, lambda: "newer", PATIENCE)
    older = engine.submit("a", 1, lambda: "older", PATIENCE)
    assert older.exception(PATIENCE).code == "superseded"
    held.release()
    assert newer.result(PATIENCE) == "newer"
    engine.close()


def test_a_request_that_arrived_before_one_that_was_begun_is_not_begun_after_it():
    engine, done = EngineThread(), []
    assert engine.submit("a", 2, lambda: done.append(2), PATIENCE).exception(PATIENCE) is None
    assert engine.submit("a", 1, lambda: done.append(1), PATIENCE).exception(PATIENCE).code == "superseded"
    for key, order in (("b", 1), ("a", 3)):
        assert engine.submit(key, order, lambda: done.append(3), PATIENCE).exception(PATIENCE) is None
    for number in range(MOST_REMEMBERED + 5):    # what is remembered does not grow without end
        engine.submit(f"other {number}", 4, lambda: None, PATIENCE).result(PATIENCE)
    assert len(engine._begun) == MOST_REMEMBERED and done == [2, 3, 3]
    engine.close()
