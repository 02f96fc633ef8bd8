"""The page tests/FAULTS.md: what each technique is put through, and what its clients see. Each row is a check's."""
from harness.checks import CHECKS
from harness.stages import STAGES

ABOUT = """# What the servers are put through

Each row is a check of `make test`: it does what the first column says, and looks at what the clients see. Where one client
holds a server (stage 1, the workers of stage 2, the pool of stage 3), the others are served after it, or once `--idle-timeout`
has let it go. This page is written by `python3 tests/run.py --faults >tests/FAULTS.md`."""


def briefly(stages):
    return ", ".join(f"stage {stage.number}" + (f" `{' '.join(stage.options)}`" if stage.options else "") for stage in stages)


def tried_with(one):
    stages = [stage for stage in STAGES if one.only(stage)]
    others = [stage for stage in STAGES if stage not in stages]
    if not others:
        return "all"
    return briefly(stages) if len(stages) < len(others) else f"all but {briefly(others)}"


def fault_page():
    """The page in Markdown."""
    rows = [("what is done", "the client concerned", "the others", "tried with"), ("---",) * 4]
    rows += [(one.fault.what, one.fault.concerned, one.fault.others, tried_with(one)) for one in CHECKS if one.fault]
    return "\n".join([ABOUT, "", *[f"| {' | '.join(row)} |" for row in rows]])
