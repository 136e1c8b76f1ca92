# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The client of /act servers with the extension: whether who answers is the server that was met."""

from dataclasses import replace

import numpy as np
import pytest
from act_double import Double

from molmoact2_model.results import Trace
from molmoact2_model.serving.client import ActClient, ActError
from molmoact2_model.serving.extension import Extra, Offer, SessionSettings, TagOffer, write_offer
from molmoact2_model.serving.traces import write_trace

IMAGES = [np.full((6, 8, 3), value, np.uint8) for value in (1, 2)]
STATE = np.linspace(0, 1, 7, dtype=np.float32)
PATIENCE = 30.0    # [s]; only a failing test waits that long
OFFER = Offer(
    server="first", checkpoint="someone/tiny", fingerprint="f" * 64,
    tags={"tiny_arm": TagOffer(7, 7, 2, 30, 30, (30, 32))}, depth=("off",), action_modes=("continuous",), num_steps=0,
    n_action_steps=0, most_bytes=2**25, machine={"torch": "2.0", "optimizations": ""},
)
NONE = np.empty(0, np.int64)
TRACE = Trace(
    prompt="go", input_ids=NONE, generated_token_ids=NONE, depth_codes=NONE, refreshed=NONE.astype(bool),
    cell_ages=NONE, code_probs=NONE.astype(np.float32), depth_mode="off", cause="", decoder_steps=0, reused_runs=0,
    seed=None, timings={"total": 0.1}, warnings=(),
)


class Replaceable(Double):
    """A server with the extension behind a proxy that keeps its clients' connections: what serves behind it may be
    replaced between two requests, and no connection ends."""

    def __init__(self):
        super().__init__()
        self.serve(OFFER)

    def serve(self, offer: Offer) -> None:
        self.more = {"molmoact2": write_offer(offer)}

        def answer(fields: dict) -> dict:
            asked = self.requests[-1]["molmoact2"]
            entry = {name: asked[name] for name in ("name", "request", "session")}
            entry |= {"server": offer.server, "flow_steps": 10, "guided": False, "trace": write_trace(TRACE)}
            return {**fields, "molmoact2": entry}

        self.answer = answer


@pytest.fixture
def double():
    double = Replaceable()
    yield double
    double.close()


@pytest.fixture
def client(double):
    client = ActClient(double.url)
    client.meet()
    yield client
    client.close()


def ask(client):
    extra = Extra("1", "robot", SessionSettings())
    return client.act(IMAGES, STATE, "go", within=PATIENCE, names=("top_cam", "wrist_cam"), dim=7, extra=extra)


def refusal(client):
    with pytest.raises(ActError) as error:
        ask(client)
    return error.value


def test_a_server_that_goes_on_is_asked_once_who_it_is(double, client):
    for _ in range(3):
        assert ask(client).actions.shape == (30, 7)
    assert double.probes == 1


def test_no_chunk_of_another_checkpoint_is_taken_over_a_connection_that_outlived_its_server(double, client):
    ask(client)
    double.serve(replace(OFFER, server="second", fingerprint="0" * 64))
    error = refusal(client)
    assert error.kind == "answer_refused" and "of another process" in str(error) and error.lost
    count = len(double.requests)
    assert refusal(client).kind == "server_changed" and len(double.requests) == count


def test_after_a_reset_another_checkpoint_is_not_even_asked_over_a_connection_that_outlived_its_server(double, client):
    ask(client)
    double.serve(replace(OFFER, server="second", fingerprint="0" * 64))
    client.doubt()
    assert refusal(client).kind == "server_changed" and len(double.requests) == 1


def test_the_same_checkpoint_started_anew_behind_a_proxy_is_taken_once_it_has_said_who_it_is(double, client):
    ask(client)
    double.serve(replace(OFFER, server="second"))
    assert refusal(client).kind == "answer_refused"
    assert [ask(client).actions.shape for _ in range(2)] == [(30, 7)] * 2 and double.probes == 2


@pytest.mark.parametrize(
    ("changed", "said"),
    [({"num_steps": 7}, "num_steps was 0 and is 7"), ({"n_action_steps": 9}, "n_action_steps was 0 and is 9"),
     ({"machine": {"torch": "2.0", "optimizations": "graphs"}}, "optimizations was '' and is 'graphs'"),
     ({"machine": {"torch": "2.0", "optimizations": "", "threads": "4"}}, "threads was None and is '4'"),
     ({"fingerprint": "0" * 64}, "weights was 'fff"), ({"tags": {}}, "norm tags was")],
    ids=str,
)
def test_a_server_with_another_default_or_other_software_is_another_and_what_changed_is_named(
    double, client, changed, said
):
    ask(client)
    double.serve(replace(OFFER, server="second", **changed))
    client.doubt()
    error = refusal(client)
    assert error.kind == "server_changed" and said in str(error) and "configure anew" in str(error)
    assert len(double.requests) == 1 and str(error).count(" and is ") == 1
