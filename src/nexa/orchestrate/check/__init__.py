"""The flight check: everything that would stop a run, or make it worthless, found before it.

In: a config.yaml. Out: a `CheckReport` with every finding at once, each with the exit code of its
class. Read `flight` first, it is the order; then the group you care about: `inputs` (files,
formats), `model` (files, vocabulary, weights, what is trained), `rows` (template, mask, truncation,
leaks, the dataset itself), `suite` (what its questions can show), `space`, `access`, and
`rehearsal`, which `child` runs in a process of its own: the memory of the longest batch, the merge
and the publication on the untrained model.
"""
