"""Rows that a teacher wrote, on their way into a dataset: the filters of all other rows.

And one more, which nothing turns off: an answer that holds a red flag is left out.
"""

from __future__ import annotations

from nexa.core.errors import IntegrityError
from nexa.core.records import Artifact, DatasetBody, Draft, SuiteBody, SyntheticBody
from nexa.core.store import Store
from nexa.data.prepare import PrepareSpec, prepare_unflagged

ROWS = "rows.jsonl"


def prepare_synthetic(
    spec: PrepareSpec,
    *,
    synthetic: Artifact[SyntheticBody],
    suite: Artifact[SuiteBody] | None = None,
    store: Store,
) -> Draft[DatasetBody]:
    """As `prepare`, of the rows of a synthetic record, which the dataset's lineage then names.

    A row whose answer proposes a hazard is rejected as `red flag`, with its kind.

    Raises:
        IntegrityError: the spec's source is not the record's file.
        DataError: as `prepare`.
    """
    digests = [source.sha256 for source in spec.sources]
    if digests != [synthetic.files[ROWS]]:
        raise IntegrityError(
            f"the rows that would be prepared are not those of {synthetic.label}",
            found=", ".join(digest[:16] for digest in digests),
        )
    return prepare_unflagged("all", spec, suite, store)
