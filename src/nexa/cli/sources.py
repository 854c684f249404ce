"""The option that chooses between the sources of a model's alias."""

from __future__ import annotations

from typing import Literal

import click

Source = Literal["auto", "hub", "wheel"]

base_source_option = click.option(
    "--base-source",
    default="auto",
    show_default=True,
    type=click.Choice(["auto", "hub", "wheel"]),
    help="Where an alias with two sources is taken from.",
)
