# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The `/act` protocol, both ends: `molmoact2 serve`, and the client that a robot's computer uses (docs/remote.md).

wire.py, pictures.py, traces.py, extension.py: what goes over the wire. fields.py, service.py, sessions.py,
engine_thread.py: the server's logic without HTTP; app.py, command.py: HTTP and the command. connection.py, client.py:
the client, which loads no torch.
"""
