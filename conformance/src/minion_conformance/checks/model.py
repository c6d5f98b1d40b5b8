"""MODEL: the store beside the reference, whatever is done."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING
from uuid import uuid4

from hypothesis import HealthCheck, Phase, Verbosity, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from minion_conformance.check import Violation, check
from minion_conformance.model import MUST_REACH, Enough, Found, Machine
from minion_conformance.reference import ReferenceBackend

if TYPE_CHECKING:
    from minion_conformance.rig import Rig


@check("MODEL-01")
def beside_the_reference(rig: Rig) -> None:
    with ReferenceBackend(f"reference:model-{uuid4().hex}", clock=rig.clock) as beside:
        reached: Counter[str] = Counter()

        class Beside(Machine):
            pass

        found = Found(patience=5.0 if rig.quick else 25.0)
        Beside.rig, Beside.model, Beside.reached, Beside.found = rig, beside, reached, found
        chosen = settings(
            max_examples=10 if rig.quick else 32,
            stateful_step_count=40,
            derandomize=not rig.seed,
            database=None,
            deadline=None,
            phases=(Phase.generate, Phase.shrink),
            verbosity=Verbosity.quiet,
            print_blob=False,
            suppress_health_check=list(HealthCheck),
        )
        try:
            run_state_machine_as_test(seed(rig.seed)(Beside) if rig.seed else Beside, settings=chosen)
        except (Exception, Enough):
            if found.violation is None:
                raise
            rig.history.lines[:] = found.lines
            raise found.violation from None
        beside.reset(all=True)
    rig.facts["transitions made"] = reached.total()
    rig.facts["kinds of transitions"] = len(reached)
    never = sorted(MUST_REACH - set(reached))
    if never:
        raise Violation(f"VACUOUS: it never came to {', '.join(never)}")
