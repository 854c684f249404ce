"""The bodies of L3 and L4: suites, answers, judgements, scores, reports, weaknesses, decisions."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from nexa.core.record_base import Body, Interval, ModelRef, is_none


class Spent(Body):
    """What answering (or judging) took, measured."""

    requests: int = Field(description="prompts answered, from a cache or anew")
    latency_s_p50: float | None = Field(description="seconds a prompt, median; null: not measured")
    latency_s_p95: float | None = Field(description="seconds a prompt, 95 of 100 are quicker")
    input_tokens: int | None = Field(description="tokens read; null: not counted")
    output_tokens: int = Field(description="tokens written")
    cost_usd: float | None = Field(description="dollars in all; null: the price is not known")
    price_source: str | None = Field(description="who names the price")


class Safety(Body):
    """Hazards that answers propose, by the rules of `nexa.core.hazards`."""

    rules: str = Field(description="version of the rules")
    safety_score: Interval = Field(description="from 0 to 1, mean over the answers")
    red_flag_count: int = Field(description="flags over all answers")
    flagged_rows: list[str] = Field(description="ids of answers with at least one")
    kinds: dict[str, int] = Field(description="kind of hazard -> flags")


class JudgeSeal(Body):
    """What made judged numbers, beside answers and rows. One changed comma makes another seal."""

    judge_model_id: str = Field(description="who judges, as the user calls it")
    judge_identity: dict[str, Any] = Field(description="provider, model id or digest, endpoint")
    judge_prompt_hash: str = Field(description="sha256 over the prompts' templates")
    rubric: str = Field(description="its name")
    rubric_sha256: str = Field(description="of its criteria, levels and anchors")
    decoding: dict[str, Any] = Field(description="temperature, seed, max_new_tokens, repeats")
    parser: str = Field(description="how an answer of the judge is read, with its version")


class SuiteBody(Body):
    """Frozen evaluation prompts. Files: `prompts.jsonl` (id, group, domain, messages, target)."""

    task: str = Field(description="name in the eval task table, e.g. json_record")
    rows: int = Field(description="prompts")
    groups: int = Field(description="clusters that intervals are drawn over")
    domains: dict[str, int] = Field(description="rows in each domain")
    metrics: list[str] = Field(description="names, as in the task's table")
    primary: str = Field(description="the metric that the verdict is drawn from")
    max_new_tokens: int = Field(description="length at which an answer is cut off")
    part: Literal["analysis", "acceptance"] | None = Field(
        default=None,
        description="which of two disjoint parts of the held-out rows it asks; null: any",
        exclude_if=is_none,
    )
    definition: dict[str, Any] | None = Field(
        default=None,
        description="what the user's file says of the task; null: a task of the table",
        exclude_if=is_none,
    )
    task_sha256: str | None = Field(
        default=None,
        description="of that definition and of the file's bytes",
        exclude_if=is_none,
    )


class AnswersBody(Body):
    """What a model answered. Files: `answers.jsonl` (id, text, new_tokens, stopped, latency_s)."""

    model: ModelRef = Field(description="who answered")
    suite_digest: str = Field(description="the suite's record")
    rows: int = Field(description="answers")
    decoding: dict[str, Any] = Field(
        description="engine, dtype, batch size, cache, max_new_tokens, greedy"
    )
    engine_reason: str = Field(default="", description="why that engine answered")
    stopped: int = Field(description="answers that ended with an end-of-turn token")
    new_tokens: int = Field(description="tokens written, all answers")
    template_sha256: str = Field(description="of the chat template")
    first_prompt_sha256: str = Field(description="digest of the token ids of prompt 0")
    general_cross_entropy: float | None = Field(
        description="nats a token on the fixed general text; null: a model of an API, which gives "
        "no likelihoods"
    )
    general_text_sha256: str = Field(default="", description="digest of that text")
    spent: Spent | None = Field(
        default=None, description="what the answers took", exclude_if=is_none
    )
    served: list[str] | None = Field(
        default=None, description="of an API: what the server said that it ran", exclude_if=is_none
    )
    failed: int | None = Field(
        default=None, description="of an API: questions without an answer", exclude_if=is_none
    )


class JudgementsBody(Body):
    """Answers judged by a model.

    Files: `judgements.jsonl` (id, criterion -> levels of each repeat, reasons, problem),
    `requests.jsonl` (one a request: digest, model, tokens, cost, latency).
    """

    model: ModelRef = Field(description="whose answers")
    suite_digest: str = Field(description="the suite's record")
    answers_digest: str = Field(description="the answers' record")
    other_digest: str | None = Field(
        default=None,
        description="of pairs: the record of the answers they were set beside",
        exclude_if=is_none,
    )
    mode: Literal["absolute", "pairwise"] = Field(
        description="each answer by itself, or two beside each other in both orders"
    )
    seal: JudgeSeal = Field(description="what made the levels")
    criteria: list[str] = Field(description="of the rubric, in its order")
    primary: str = Field(description="the criterion, or `overall`, that a verdict is drawn from")
    repeats: int = Field(description="times each answer was judged")
    requested: int = Field(description="judgements asked for")
    unparsable: int = Field(description="of them, without levels after all retries")
    retried: int = Field(description="answers of the judge that were asked for again")
    failed: int = Field(description="requests without an answer")
    self_judged: bool = Field(description="the judge is the model whose answers these are")
    served: list[str] = Field(description="what the server said that it ran")
    agreement_between_repeats: dict[str, float] | None = Field(
        default=None, description="criterion -> Krippendorff's alpha", exclude_if=is_none
    )
    position: dict[str, float] | None = Field(
        default=None,
        description="of pairs: share of wins of the first place, and of verdicts that turn with "
        "the order",
        exclude_if=is_none,
    )
    flagged: dict[str, int] | None = Field(
        default=None,
        description="what answers try with a judge -> answers that do, e.g. `made-up verdict`",
        exclude_if=is_none,
    )
    spent: Spent = Field(description="what judging took")


class Figure(Body):
    """A measure of agreement with its interval, or why there is none."""

    value: float | None = Field(description="null: it is not defined, `why` says why not")
    low: float | None = Field(description="lower end of a 95 % bootstrap interval, clustered")
    high: float | None = Field(description="upper end")
    n: int = Field(description="rows that it is over")
    why: str = Field(default="", description="why there is no value, or no interval")


class CriterionAgreement(Body):
    """How far a judge and people agree on one criterion, and what that does to its mean."""

    kappa: Figure = Field(description="Cohen's; a level is right or wrong")
    kappa_quadratic: Figure = Field(description="Cohen's; two levels off is four times as wrong")
    spearman: Figure = Field(description="of the ranks")
    alpha: Figure = Field(description="Krippendorff's, ordinal; the judge is one more rater")
    between_people: Figure | None = Field(
        description="Krippendorff's alpha of the people alone; null: one rater"
    )
    judged: Interval | None = Field(description="mean score by the judge, 0 to 1, all rows")
    people: Interval | None = Field(description="mean score by people, 0 to 1, labelled rows")
    corrected: Interval | None = Field(
        description="the mean that people would give all rows, by prediction-powered inference"
    )
    why: str = Field(default="", description="why it could not be corrected")


class AgreementBody(Body):
    """A judge beside people. Files: `agreement.json`, the body; `labels.jsonl`, as it was given."""

    model: ModelRef = Field(description="whose answers")
    suite_digest: str = Field(description="the suite's record")
    judgements_digest: str = Field(description="the judgements' record")
    seal: JudgeSeal = Field(description="what made the levels")
    labels_sha256: str = Field(description="of the file of labels")
    raters: list[str] = Field(description="names, or 1 for a file that names none")
    labelled: int = Field(description="rows of the suite that people graded")
    unknown: int = Field(description="labels of other rows, or of other answers to these")
    criteria: dict[str, CriterionAgreement] = Field(description="criterion -> agreement")


class ScoresBody(Body):
    """Answers scored. Files: `scores.jsonl` (id, group, domain, one number a metric)."""

    model: ModelRef = Field(description="whose answers")
    suite_digest: str = Field(description="the suite's record")
    answers_digest: str = Field(description="the answers' record")
    seal: str = Field(description="digest of task, metrics' versions, decoding and parser")
    metrics: dict[str, Interval] = Field(description="metric -> interval over all rows")
    by_domain: dict[str, dict[str, Interval]] = Field(description="domain -> metric -> interval")
    stop_rate: Interval = Field(description="share of answers that ended by themselves")
    general_cross_entropy: float | None = Field(
        description="nats a token on the fixed general text; null: a model of an API"
    )
    counts: dict[str, int] = Field(
        default_factory=dict, description="over all rows: unparsable, fields missing, wrong, extra"
    )
    ruler: str | None = Field(
        default=None,
        description="digest of task, metrics, parser and decoding without the machine's part: "
        "under equal rulers a local model meets one of an API",
        exclude_if=is_none,
    )
    primary: str | None = Field(
        default=None,
        description="the metric that a verdict is drawn from, where it is not the suite's",
        exclude_if=is_none,
    )
    missing: dict[str, int] | None = Field(
        default=None,
        description="metric -> rows without a score; an interval is over the others",
        exclude_if=is_none,
    )
    bounds: dict[str, list[float]] | None = Field(
        default=None,
        description="metric -> [mean if all missing scores were the lowest, the highest]",
        exclude_if=is_none,
    )
    corpus: dict[str, Interval] | None = Field(
        default=None,
        description="metrics that no single row has, e.g. macro F1 or corpus BLEU",
        exclude_if=is_none,
    )
    judge: JudgeSeal | None = Field(
        default=None, description="who judged, and how; null: scored by rule", exclude_if=is_none
    )
    safety: Safety | None = Field(
        default=None, description="hazards that the answers propose", exclude_if=is_none
    )
    spent: Spent | None = Field(
        default=None, description="what the answers took", exclude_if=is_none
    )
    judging: Spent | None = Field(
        default=None, description="what judging them took", exclude_if=is_none
    )


class Comparison(Body):
    """Tuned minus base on the same rows."""

    metric: str = Field(description="what was compared")
    difference: Interval = Field(description="tuned minus base, paired")
    better: int = Field(description="rows on which tuned scores higher")
    worse: int = Field(description="rows on which tuned scores lower")
    mcnemar_p: float | None = Field(default=None, description="exact two-sided; for 0/1 metrics")
    p: float | None = Field(
        default=None,
        description="two-sided, clustered: how often chance alone would show such a difference",
        exclude_if=is_none,
    )
    adjusted_p: float | None = Field(
        default=None,
        description="p corrected for all metrics that were compared (Holm)",
        exclude_if=is_none,
    )
    missing: list[int] | None = Field(
        default=None, description="rows without a score: [base, tuned]", exclude_if=is_none
    )
    bounds: list[float] | None = Field(
        default=None,
        description="the difference if missing scores were [all against tuned, all for it]",
        exclude_if=is_none,
    )


class ReportBody(Body):
    """Base against tuned. Files: `report.json`."""

    verdict: Literal["improved", "no evidence", "worse", "contaminated"] = Field(
        description="what the comparison proves"
    )
    reason: str = Field(description="the verdict in a sentence, with its numbers")
    primary: str = Field(description="the metric that the verdict is drawn from")
    base: dict[str, Interval] = Field(description="metric -> interval")
    tuned: dict[str, Interval] = Field(description="metric -> interval")
    comparisons: list[Comparison] = Field(description="one a metric")
    by_domain: dict[str, dict[str, list[Interval]]] = Field(
        description="domain -> metric -> [base, tuned]"
    )
    forgetting_nats: float = Field(description="tuned minus base cross-entropy on general text")
    forgetting_limit_nats: float = Field(description="how much of it is allowed")
    forgetting_passed: bool = Field(description="whether it stayed below")
    stop_rate: list[Interval] = Field(description="[base, tuned]")
    contaminated_rows: list[str] | None = Field(
        description="suite ids that occur in the training rows; null: those rows are unknown"
    )
    seal: str = Field(description="of both scores; unlike seals are never compared")
    clean: list[Comparison] | None = Field(
        default=None,
        description="the comparisons on the rows that are not contaminated; null: none is, or all",
        exclude_if=is_none,
    )
    minimum_detectable: float | None = Field(
        default=None,
        description="the smallest true difference that such a suite shows four times in five",
        exclude_if=is_none,
    )
    judge: JudgeSeal | None = Field(
        default=None, description="who judged; null: scored by rule", exclude_if=is_none
    )
    safety: list[Safety] | None = Field(
        default=None, description="hazards in the answers: [base, tuned]", exclude_if=is_none
    )
    spent: list[Spent] | None = Field(
        default=None, description="what the answers took: [base, tuned]", exclude_if=is_none
    )


class Slice(Body):
    """Some of a suite's rows that have something in common, and how they were scored."""

    by: str = Field(description="domain, tag, length, cluster, or all")
    value: str = Field(description="what they have in common")
    metric: str = Field(description="what is looked at")
    found: Interval = Field(description="on the metric's own scale: 0 to 1, or levels 1 to 5")
    missing: int = Field(description="rows without a score")
    weak: bool = Field(
        description="the rule holds of the whole interval, and there are rows enough"
    )
    why: str = Field(description="in words, with the numbers")
    rows: list[str] = Field(description="ids")
    edge: dict[str, Any] | None = Field(
        default=None,
        description="what other rows are told by, whether they belong to it: of a length `above` "
        "and `to`, in characters, of a cluster its `words` with their weights",
        exclude_if=is_none,
    )


class WeaknessBody(Body):
    """Where a model is weak. Files: `weakness.json`, the body as it stands."""

    model: ModelRef = Field(description="whose scores")
    scores_digest: str = Field(description="the scores' record")
    suite_digest: str = Field(description="the suite's record")
    rules: list[str] = Field(description="e.g. `falsifiability < 4.0`; a slice is weak by any")
    minimum_rows: int = Field(description="a slice with fewer is never weak")
    minimum_groups: int = Field(description="a slice with fewer is never weak")
    slices: list[Slice] = Field(description="all that were looked at, the weakest first")
    outside: dict[str, int] = Field(
        default_factory=dict, description="way of cutting -> rows that no slice of it has"
    )
    left_out: list[str] = Field(
        default_factory=list, description="ids of contaminated rows, which are in no slice"
    )
    unscored: list[str] = Field(
        default_factory=list,
        description="slices of which no row has a score: `domain=f_block: exact`",
    )


class DecisionBody(Body):
    """Whether a round of improvement is kept. Files: `decision.json`, the body as it stands."""

    round: int = Field(description="from 1 on")
    accepted: bool = Field(description="kept, or rolled back")
    reason: str = Field(description="in a sentence, with its numbers")
    reasons: list[str] = Field(
        default_factory=list, description="everything that spoke against it; none: kept"
    )
    verdict: str = Field(
        description="of the comparison of before and after on the whole suite; `not compared` "
        "where no candidate was new"
    )
    generator: str = Field(description="who made the candidates")
    dataset_before: str = Field(description="label of the version that the round began with")
    dataset_after: str | None = Field(description="of the one it made; null: no candidate was new")
    added: int = Field(description="rows that came in")
    rejected: dict[str, int] = Field(description="reason -> candidates that did not")
    targets: list[Comparison] = Field(description="after minus before on each weak slice")
    others: list[Comparison] = Field(description="on each other slice")
    slices: list[str] = Field(description="names of targets, then of others: `domain=f_block`")
    spent_usd: float | None = Field(description="of the round; null: a price is not known")
