"""What is weighed in a stage: the counters, outcomes that come later, answers that were compared."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .background import Background, Task
from .compared import Compared, Comparison
from .judge import Evidence, Verdict, Window, judge
from .outcomes import OutcomeFiles, Outcomes
from .readings import Reading
from .sources.answers import AnswersSource
from .state import State


class Scales:
    """Weighs what is known of a rollout; it holds nothing that a new one would not find again."""

    def __init__(self, folder: Path, background: Background, answers: AnswersSource | None) -> None:
        """Nothing is known yet.

        Args:
            folder: the project's, for the files that the analysis names.
            background: does what takes long beside the driver.
            answers: what the variants answered, where that is compared.
        """
        self._folder, self._background, self._answers = folder, background, answers
        self._files: OutcomeFiles | None = None
        self._comparison: Comparison | None = None
        self._stage, self._took = -1, False
        self._taking: Task[Mapping[str, Sequence[Mapping[str, Any]]]] | None = None

    @property
    def compared(self) -> dict[str, Any] | None:
        """What was compared of answers, for the journal."""
        return self._comparison.compared.record() if self._comparison else None

    def compare(self, state: State) -> None:
        """Count the answers that were taken meanwhile, and have the next ones taken."""
        looks_at = state.rollout.looks_at
        copies = state.here.percent is None and looks_at.agreement is not None
        if self._answers is None or not (copies or looks_at.predictions):
            return
        if self._comparison is None or self._stage != state.stage:
            self._stage, self._taking, self._took = state.stage, None, False
            self._comparison = Comparison(looks_at, copies, Compared.of(state.compared))
        if self._taking and self._taking.wait(0):
            taken = self._taking.result()
            self._taking = None
            if self._took:  # what servers had kept before belongs to no stage, or to another one
                self._comparison.add(taken[state.candidate], taken[state.stable])
            self._took = True
        if self._taking is None:
            source, names = self._answers, [state.candidate, state.stable]
            header = (looks_at.agreement.slice_header or "") if looks_at.agreement else ""
            self._taking = self._background(lambda: source.take(names, header))

    def weigh(
        self, state: State, totals: Mapping[str, Reading], edges: Sequence[float], moves: bool = False
    ) -> Evidence:
        """The evidence of the stage, or of a move to it; the decision about it comes after.

        Args:
            state: of the rollout.
            totals: what was counted of each variant in the window.
            edges: of the latencies' histogram.
            moves: whether weights are on their way, so that no share holds.
        """
        stage = state.here
        candidate, stable = totals[state.candidate], totals[state.stable]
        if stage.percent == 0 and not moves:
            enough = stable.requests >= stage.min_samples
            return Evidence(Verdict.PROMOTE if enough else Verdict.WAIT, [], stable.requests)
        found = self._outcomes(state)
        all_at_once = stage.percent == 100 and not moves
        # Users differ in how much they ask for: the division of their requests says nothing.
        is_divided = stage.percent is not None and not (all_at_once or moves or state.rollout.users)
        window = Window(
            candidate=candidate,
            stable=(state.reference or Reading()) if all_at_once else stable,
            edges=edges,
            share=stage.percent / 100 if is_divided and stage.percent else None,
            outcomes=found.values,
            users=found.users if state.rollout.users and not moves else None,
            user_share=(stage.percent or 50) / 100,
            compared=self._comparison.compared if self._comparison else None,
            has_pairs=stage.percent is None,
        )
        # The first move is a window of its own; at the others that of the stage before goes on.
        windows = 1 + sum(one.percent != 0 for one in state.plan)
        alpha = state.rollout.alpha or 0.05
        return judge(state.rollout.looks_at, window, alpha, windows, stage.min_samples)

    def _outcomes(self, state: State) -> Outcomes:
        outcome = state.rollout.looks_at.outcome
        if outcome is None:
            return Outcomes()
        if self._files is None:
            assignments = self._folder / outcome.assignments if outcome.assignments else None
            self._files = OutcomeFiles(
                self._folder / outcome.file, assignments, state.candidate, state.stable
            )
        return self._files.read(state.outcomes_from, state.assigned_from)
