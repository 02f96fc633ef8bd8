"""The README's table: which faults each technique is put through, and what its clients see. The checks say so themselves."""
from harness import CHECKS
from stages import STAGES


def briefly(stages):
    return ", ".join(f"stage {stage.number}" + (f" `{' '.join(stage.options)}`" if stage.options else "") for stage in stages)


def tried_with(one):
    stages = [stage for stage in STAGES if one.only(stage)]
    others = [stage for stage in STAGES if stage not in stages]
    if not others:
        return "all"
    return briefly(stages) if len(stages) < len(others) else f"all but {briefly(others)}"


def fault_table():
    """In Markdown."""
    rows = [("what is done", "who is concerned", "the others", "tried with"), ("---",) * 4]
    rows += [(one.fault.what, one.fault.concerned, one.fault.others, tried_with(one)) for one in CHECKS if one.fault]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
