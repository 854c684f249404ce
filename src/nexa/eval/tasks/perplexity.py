"""How well a model predicts the held-out answers, token by token: nothing is generated.

A row's score is the geometric mean of its tokens' probabilities, from 0 to 1. Perplexity and bits
a byte are of the whole corpus: the sums of all rows' nats, tokens and bytes. Of a plain text the
continuation is predicted from its beginning.
"""

from __future__ import annotations

import math

from nexa.eval.tasks.task import Grade, Likelihoods, Metric, Task, Through, rounded

METRICS = (
    Metric("token_probability", 1, "geometric mean of the probabilities of the answer's tokens"),
)


def perplexity_task(
    name: str = "perplexity",
    about: str = "the answer is predicted, not given",
    *,
    through: Through = "template",
    separator: str = " ",
) -> Task:
    """A task that is scored by the likelihood of its targets."""
    return Task(
        name=name,
        about=about,
        metrics=METRICS,
        primary="token_probability",
        parser="likelihood/1",
        fits=lambda targets: bool(targets) and all(targets),
        grader=lambda targets: _grade,
        corpus=("perplexity", "bits_per_byte"),
        continuations=lambda target: (target,),
        through=through,
        separator=separator,
    )


def _grade(answer: Likelihoods, target: str) -> Grade:
    nats, tokens, size = answer.nats[0], answer.tokens[0], answer.bytes[0]
    return Grade(
        {"token_probability": rounded(math.exp(nats / tokens))},
        {"tokens": tokens, "bytes": size},
        {"nats": rounded(-nats), "tokens": tokens, "bytes": size},
    )


PERPLEXITY = perplexity_task()
