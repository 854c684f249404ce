"""The guided flow (Nexa Auto): questions, one after the other, up to a published model.

In come answers, from a terminal or from flags; out goes `answers.Answers`, and from it the very
commands that a user would type, which are then run. Nothing is written before the last question.

Read `guided.py` first: the order of the questions and what follows them. `asking.py` is how one
question is asked until its answer holds; each other file is one group of questions.
"""
