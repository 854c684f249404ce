"""The command line: what a user types comes in, one call of a layer below and a record go out.

Read `main.py` first: the one table of commands, and the one place where errors become text.

A new command is one file and one line:

1.  Its file declares parameters and, inside the function, imports what it calls, so that `--help`
    stays fast (nothing but click is imported until a command runs). Under thirty lines:

        @click.command()
        @click.argument("run", default="latest")
        @click.option("--html", is_flag=True, help="Write the page too.")
        @output_options                     # adds --json -v -q; passes `out: Output` first
        def report(out: Output, run: str, html: bool) -> None:
            "Show how a run's model compares with its base."
            from nexa.orchestrate.reports import report_of

            body = report_of(run, html=html)
            out.show(body.model_dump(mode="json"), lambda: out.pairs({"Verdict": body.verdict}))

2.  Its line goes into `COMMANDS` in `main.py`: name -> (target, the docstring's first sentence).

A group is a `LazyGroup` with a table of the same shape, in a file of its own. Wrong input raises a
class of `nexa.core.errors`; a command catches nothing. `make docs` then writes docs/cli.md anew.
"""
