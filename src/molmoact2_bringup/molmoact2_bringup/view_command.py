# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""`molmoact2 view`: what the visualizer shows, in a browser."""

from __future__ import annotations

import signal
import sys

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions

from molmoact2_contract import Contract, ContractError, load_system
from molmoact2_contract.stop_flag import StopFlag
from molmoact2_policy.view.server import ServerError, ViewerServer

OK, FAILED, BAD_INPUT = 0, 1, 2
NAME = "molmoact2"


def view(system_name: str, port: int, web_port: int, memory: str, rate: float) -> int:
    """Serves until Ctrl-C. Returns 0 then, 1 when the viewer ended by itself, 2 for bad input."""
    stop = StopFlag()
    handlers = {n: signal.signal(n, lambda *_: stop.set()) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        contract = load_system(system_name).contract
        with ViewerServer(port, web_port, memory) as server:
            print(f"[view] open {server.page} ; Ctrl-C ends it", flush=True)
            ended = _show(contract, server, rate, stop)
    except (ContractError, ServerError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if ended:
        print(f"error: the viewer has ended: {ended}", file=sys.stderr)
    return FAILED if ended else OK


def _show(contract: Contract, server: ViewerServer, rate: float, stop: StopFlag) -> str:
    """Until `stop` (returns nothing), or until the server has ended (returns how)."""
    import rerun

    from molmoact2_policy.view.scene import Scene
    from molmoact2_policy.view.scene_node import SceneNode

    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    recording = rerun.RecordingStream(NAME)
    recording.connect_grpc(server.data_url)
    node = SceneNode(contract, Scene(recording, contract), rate)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        while not stop.is_set() and not server.ended:
            executor.spin_once(timeout_sec=0.2)
        return "" if stop.is_set() else server.ended
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown()
        recording.disconnect()
