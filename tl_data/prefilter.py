"""Decides `tl_filter` by similarity where the vector of a clip leaves no doubt, so that no call is needed.

The cosine of a clip's vector and the condition's vector separates most clips that fulfil the condition from
most that do not. Where the border is depends on the condition. So the first answers of the model (200, see
the setting `prefilter_sample`) calibrate two thresholds: clips below the lower one are false, clips above the
upper one are true, and the model judges the others. `benchmarks/prefilter.py` measures the loss.

A calibration belongs to one session and one condition. Other processes, such as Spark's workers, calibrate
on their own; they share the answers of the model through the ledger.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import weakref
from array import array
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from statistics import NormalDist, fmean, stdev

from tl_data.catalog import FUNCTIONS
from tl_data.errors import SchemaMismatch
from tl_data.ledger.models import Call
from tl_data.session import Session
from tl_data.usage import current

#: Number of further answers before the next attempt to calibrate, if there were too few true or false ones.
STEP = 50
#: Minimum number of true answers, and of false ones, in a calibration.
LEAST = 5
#: Expected number of wrong decisions of both thresholds per true clip. Four missed or false clips per hundred
#: true ones reduce F1 by about two points.
ERRORS = 0.04
#: Number of ways to divide these between the two thresholds that are compared.
DIVISIONS = 11
#: Largest number of conditions whose calibrations a session keeps.
CONDITIONS = 100


class Calibration:
    """The thresholds of one condition, from pairs of a similarity and an answer.

    Args:
        sample: number of answers before the first decision.
    """

    def __init__(self, sample: int) -> None:
        self.sample = sample
        #: Similarities at or below the first are false, at or above the second true; None: not calibrated.
        self.thresholds: tuple[float, float] | None = None
        self._true: list[float] = []
        self._false: list[float] = []

    @property
    def answers(self) -> int:
        """The number of answers so far."""
        return len(self._true) + len(self._false)

    @property
    def missing(self) -> int:
        """The number of answers until the next attempt to calibrate; 0 if calibrated."""
        if self.thresholds is not None:
            return 0
        if self.answers < self.sample:
            return self.sample - self.answers
        return STEP - (self.answers - self.sample) % STEP

    def add(self, similarity: float, answer: bool) -> None:
        """Add an answer of the model.

        After the calibration answers are ignored, because they are about doubtful clips only.
        """
        if self.thresholds is not None:
            return
        (self._true if answer else self._false).append(similarity)
        if self.answers >= self.sample and (self.answers - self.sample) % STEP == 0:
            self.thresholds = thresholds_of(self._true, self._false)

    def decide(self, similarity: float) -> bool | None:
        """The answer, or None if the model must be asked."""
        if self.thresholds is None:
            return None
        low, high = self.thresholds
        if similarity <= low:
            return False
        return True if similarity >= high else None


def thresholds_of(true: Sequence[float], false: Sequence[float]) -> tuple[float, float] | None:
    """The two thresholds, from the similarities of true and of false answers; None if there are too few.

    The expected wrong decisions, `ERRORS` per true clip, are divided between missed clips (lower threshold)
    and false ones (upper threshold) such that most clips of the sample are decided.
    """
    if len(true) < LEAST or len(false) < LEAST:
        return None
    negative = [-value for value in false]
    found: list[tuple[int, float, float]] = []
    for step in range(DIVISIONS):
        missed = ERRORS * step / (DIVISIONS - 1)
        low = _quantile(true, missed)
        high = -_quantile(negative, (ERRORS - missed) * len(true) / len(false))
        if low > high:  # the sample separates true and false clips; the clips between the two stay doubtful
            low, high = high, low
        decided = sum(value <= low or value >= high for value in (*true, *false))
        found.append((decided, low, high))
    _, low, high = max(found, key=lambda each: each[0])
    return low, high


def _quantile(values: Sequence[float], share: float) -> float:
    """A value below which at most about this share of the distribution lies.

    It is the more careful of two: the quantile of a normal distribution with the mean and deviation of the
    values (Student's t, for few values), and the order statistic, at least the smallest value. The second one
    counts where the values are not normal: it decides nothing that the sample contradicts.
    """
    share = min(0.5, share)
    if share <= 0:
        return -math.inf
    count = len(values)
    mean, deviation = fmean(values), stdev(values)
    z, n = NormalDist().inv_cdf(share), count - 1
    # Student's t by its expansion in 1/n.
    t = z + (z**3 + z) / (4 * n) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
    estimate = mean + t * deviation * math.sqrt(1 + 1 / count)
    allowed = math.floor(share * (count + 1))  # expected share below the k-th smallest value: k / (count + 1)
    return min(estimate, sorted(values)[max(allowed, 1) - 1])


def cosine(a: Sequence[float], b: Sequence[float]) -> float | None:
    """The cosine of two vectors of the same length; None if one of them is zero or not finite."""
    product = math.hypot(*a) * math.hypot(*b)
    if not product or not math.isfinite(product):
        return None
    return math.fsum(x * y for x, y in zip(a, b, strict=True)) / product


class Prefilter:
    """The calibration of one condition in one session. It belongs to the session's event loop."""

    def __init__(self, session: Session, condition: str) -> None:
        self.calibration = Calibration(session.settings.prefilter_sample)
        self._session, self._condition = weakref.proxy(session), condition
        self._vector: list[float] | None = None
        self._embedding = asyncio.Lock()
        self._running = 0  # running calls whose answers belong to the sample
        self._sampled: set[bytes] = set()  # digests of the vectors in the sample: quotes repeat clips
        self._changed = asyncio.Event()

    async def vector(self) -> list[float]:
        """The vector of the condition. It is embedded once and kept in the ledger."""
        async with self._embedding:
            if self._vector is None:
                session = self._session
                digest = hashlib.sha256(self._condition.encode()).hexdigest()
                call = Call("embed_text", digest, model=session.vectors_by)

                async def embed() -> dict[str, list[float]]:
                    return {"vector": await FUNCTIONS["embed_text"].run(session, self._condition)}

                entry = await session.ledger.once(call, embed)
                self._vector = list(entry.record()["vector"])
            return self._vector

    async def answer(self, vector: Sequence[float], ask: Callable[[], Awaitable[bool | None]]) -> bool | None:
        """The answer for a clip: by its vector, or by `ask`.

        While the answers of the sample are pending, further rows wait for the calibration.

        Raises:
            SchemaMismatch: the vector has another length than that of the condition.
        """
        condition = await self.vector()
        if len(vector) != len(condition):
            raise SchemaMismatch(
                f"vector has {len(vector)} numbers, but {self._session.vectors_by} makes {len(condition)}: "
                "pass vectors of the same model"
            )
        similarity = cosine(vector, condition)
        if similarity is None:
            return await ask()
        calibration = self.calibration
        while self._running >= calibration.missing > 0:
            self._changed.clear()
            await self._changed.wait()
        if calibration.thresholds is not None:
            decided = calibration.decide(similarity)
            if decided is None:
                return await ask()
            # The usage of the running call of the function: its result is by the vectors' model.
            current().model = f"{self._session.vectors_by} (similarity)"
            return decided
        digest = hashlib.sha256(array("d", vector).tobytes()).digest()
        if digest in self._sampled:  # each clip counts once
            return await ask()
        self._running += 1
        self._sampled.add(digest)
        try:
            answer = await ask()
            calibration.add(similarity, answer is True)  # a clip that is not decidable is not selected either
            return answer
        except BaseException:
            self._sampled.discard(digest)
            raise
        finally:
            self._running -= 1
            self._changed.set()


_prefilters: weakref.WeakKeyDictionary[Session, OrderedDict[str, Prefilter]] = weakref.WeakKeyDictionary()


def prefilter_of(session: Session, condition: str) -> Prefilter:
    """The prefilter of a condition in this session."""
    conditions = _prefilters.setdefault(session, OrderedDict())
    prefilter = conditions.pop(condition, None) or Prefilter(session, condition)
    conditions[condition] = prefilter
    if len(conditions) > CONDITIONS:
        conditions.popitem(last=False)
    return prefilter
