"""The peers, each a script that runs in an environment of its own, where Nexa is not installed.

`job` is what they are all asked to do, `meter` counts and times in all of them; neither imports
anything of Nexa.
"""
