# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Every part of a request stands under its deadline: looking up the name, connecting, sending, waiting."""

import socket
import threading
import time

import numpy as np
import pytest
from act_double import Double

from molmoact2_model.serving import names
from molmoact2_model.serving.client import ActClient, ActError
from molmoact2_model.serving.connection import Address, Connection, Slow

PATIENCE = 30.0    # [s]; only a failing test waits that long
NAMED = "gpu.example"


class Resolver:
    """The system's resolver, as slow as it likes. It knows one name."""

    def __init__(self, port):
        self.port, self.answers, self.asked, self.places = port, threading.Event(), [], [("127.0.0.1", port)]

    def __call__(self, host, port, type=0, flags=0):
        if host != NAMED:
            return REAL(host, port, type=type, flags=flags)
        if flags & socket.AI_NUMERICHOST:
            raise socket.gaierror(socket.EAI_NONAME, "no number")
        self.asked.append(host)
        assert self.answers.wait(PATIENCE)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", place) for place in self.places]


REAL = socket.getaddrinfo


@pytest.fixture
def double():
    double = Double()
    yield double
    double.close()


@pytest.fixture
def resolver(double, monkeypatch):
    found = Resolver(double.port)
    monkeypatch.setattr(socket, "getaddrinfo", found)
    names._running.clear()
    yield found
    found.answers.set()


def test_a_name_that_is_not_looked_up_in_time_is_given_up_and_asked_for_by_one_thread_alone(double, resolver):
    address = Address.read(f"http://{NAMED}:{double.port}")
    hasty, patient = Connection(address, connect_within=0.02), Connection(address, connect_within=PATIENCE)
    for _ in range(3):
        with pytest.raises(Slow, match="no connection within 0.02 s"):
            hasty.open(PATIENCE)
    resolver.answers.set()
    assert names._running[NAMED, double.port].done.wait(PATIENCE)
    patient.open(PATIENCE)    # what came too late is of use to the next attempt
    assert patient.is_open and resolver.asked == [NAMED]
    patient.close()
    patient.open(PATIENCE)    # and is not believed for ever
    assert resolver.asked == [NAMED, NAMED]
    patient.close()


def test_what_was_looked_up_long_ago_is_asked_for_again(double, resolver, monkeypatch):
    with pytest.raises(TimeoutError):
        names.look_up(NAMED, double.port, 0.0)
    resolver.answers.set()
    lookup = names._running[NAMED, double.port]
    assert lookup.done.wait(PATIENCE)
    lookup.ended -= names.FRESH
    assert names.look_up(NAMED, double.port, PATIENCE) == [(socket.AF_INET, ("127.0.0.1", double.port))]
    assert len(resolver.asked) == 2


def test_a_name_that_hangs_is_a_server_that_is_away_within_the_time_of_the_request(resolver):
    client = ActClient(f"http://{NAMED}:1")
    with pytest.raises(ActError, match="cannot be reached: no connection within 0.05 s") as error:
        client.meet(0.05)
    assert error.value.passing


def test_a_name_that_there_is_not_and_one_that_is_none_are_refused_in_words(monkeypatch):
    def unknown(host, port, type=0, flags=0):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(ActError, match="Name or service not known"):
        ActClient("http://nowhere.example:1").meet(PATIENCE)
    monkeypatch.undo()
    with pytest.raises(ActError, match="cannot be reached"):
        ActClient(f"http://{'a' * 70}.example:1").meet(PATIENCE)


def test_an_address_that_does_not_answer_leaves_time_for_the_next(double, resolver):
    resolver.answers.set()
    with socket.socket() as full:    # one whose queue of connections is full answers nobody
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        place, waiting = full.getsockname(), []
        for _ in range(4):
            made = socket.socket()
            made.setblocking(False)
            made.connect_ex(place)
            waiting.append(made)
        resolver.places = [place, ("127.0.0.1", double.port)]
        connection = Connection(Address.read(f"http://{NAMED}:{double.port}"), connect_within=0.6)
        connection.open(PATIENCE)
        assert connection._socket.getpeername()[1] == double.port
        connection.close()
        for made in waiting:
            made.close()


def test_a_server_that_takes_a_few_bytes_now_and_then_is_given_up_within_the_time():
    near, far = socket.socketpair()
    near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    connection = Connection(Address.read("http://127.0.0.1:1"), 1.0)
    connection._socket, done = near, threading.Event()

    def sip():
        while not done.is_set():
            far.recv(16)
            done.wait(0.005)

    thread = threading.Thread(target=sip, daemon=True)
    thread.start()
    began = time.monotonic()
    with pytest.raises(Slow, match="no answer within 0.2 s"):
        connection.exchange("POST", "/act", {}, bytes(2**20), 0.2)
    assert time.monotonic() - began < PATIENCE    # at that pace it would take minutes
    done.set()
    far.close()
    thread.join(PATIENCE)


@pytest.mark.parametrize("kind", ["host", "general"])
def test_the_parts_of_a_request_share_one_time(kind, monkeypatch):
    """Each step finds the time that those before it have left."""
    double = Double(kind)
    client, given = ActClient(double.url), []
    real = {name: getattr(Connection, name) for name in ("open", "exchange")}
    for name in real:
        def passed_on(self, *args, name=name):
            given.append(args[-1])
            return real[name](self, *args)

        monkeypatch.setattr(Connection, name, passed_on)
    images = [np.zeros((6, 8, 3), np.uint8)] * 2
    client.act(images, np.zeros(7, np.float32), "go", within=PATIENCE, names=() if kind == "general" else double.keys)
    assert len(given) >= 4 and given == sorted(given, reverse=True) and given[0] < PATIENCE
    double.close()
