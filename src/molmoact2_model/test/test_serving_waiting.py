# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""`molmoact2 serve` over real HTTP: who waits for the engine, who is answered instead of another, who is hung up on."""

import socket
import threading
import time
import types

from asked import extended, host
from served import PATIENCE, Held, pack


def later(served, fields):
    """Asks in a thread; its result once it is joined."""
    found = []
    thread = threading.Thread(target=lambda: found.append(served.ask("POST", "/act", fields)))
    thread.start()
    return thread, found


def waiting(served, count):
    """Blocks until so many wait for the engine."""
    engine, end = served.service.engine, threading.Event()
    while engine.waiting != count:
        assert not end.wait(0.005)


def test_of_one_session_the_newest_request_is_answered_and_the_older_hears_so(alone):
    served = alone()
    held = Held(served.service.engine)
    old, old_answer = later(served, extended(1))
    waiting(served, 1)
    new, new_answer = later(served, extended(2))
    old.join(PATIENCE)
    assert old_answer[0][0] == 409 and old_answer[0][1]["code"] == "superseded"
    held.release()
    new.join(PATIENCE)
    assert new_answer[0][0] == 200 and new_answer[0][1]["molmoact2"]["request"] == "2"


def test_whose_deadline_passes_while_it_waits_is_not_begun(alone):
    served = alone()
    held = Held(served.service.engine)
    thread, answer = later(served, extended(1, deadline=0.0))
    waiting(served, 1)
    held.release()
    thread.join(PATIENCE)
    assert answer[0][0] == 504 and answer[0][1]["code"] == "late"


def test_the_time_that_a_body_took_counts_against_its_deadline(alone, monkeypatch):
    served = alone()
    clock = types.SimpleNamespace(monotonic=lambda: time.monotonic() - 100.0)    # as if bodies took 100 s to read
    monkeypatch.setattr("molmoact2_model.serving.app.time", clock)
    status, answer = served.ask("POST", "/act", extended(1, deadline=90.0))
    assert (status, answer["code"]) == (504, "late")
    assert served.ask("POST", "/act", extended(2, deadline=2000.0))[0] == 200


def test_what_a_client_that_hung_up_asked_for_is_not_begun(alone):
    served = alone()
    held = Held(served.service.engine)
    connection = served.connect()
    connection.request("POST", "/act", pack(host()))
    waiting(served, 1)
    connection.sock.close()
    connection.close()
    waiting(served, 0)
    held.release()
    assert served.ask("POST", "/act", host())[0] == 200
    assert 'molmoact2_requests_total{outcome="hung_up",path="/act"} 1.0' in served.ask("GET", "/metrics")[1]


def test_who_connects_and_sends_no_whole_head_is_hung_up_on_and_who_waits_for_an_answer_is_not(alone, monkeypatch):
    monkeypatch.setattr("molmoact2_model.serving.server.HEAD_WITHIN", 1.0)
    served = alone()
    held = Held(served.service.engine)
    thread, answer = later(served, host(num_steps=1))
    waiting(served, 1)
    kept = served.connect()
    kept.request("GET", "/healthz")
    assert kept.getresponse().read() and kept.sock is not None
    silent, slow = (socket.create_connection(("127.0.0.1", served.port), PATIENCE) for _ in range(2))
    for sock in (slow, kept.sock):
        sock.sendall(b"GET /healthz HTTP/1.1\r\n")
    for sock in (silent, slow, kept.sock):
        assert sock.recv(1) == b""
        sock.close()
    held.release()
    thread.join(PATIENCE)
    assert answer[0][0] == 200
