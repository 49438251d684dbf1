"""Adaptive concurrency: the number of calls that an endpoint admits at a time, learned from refused calls."""

from __future__ import annotations

from typing import Final

_HOT: Final = 10  # a refusal counts 2, an answer -1; from this sum on, refusals are more than bad luck
_CHRONIC: Final = 32  # after so many refusals that the limit does not explain, the limit is in doubt
_BEARABLE: Final = 0.12  # refusals per answer that are tolerated
_SLOW: Final = 0.1  # the share of calls that may time out; if it is higher, too many are in flight


class Adaptive:
    """The limit on calls in flight, which adapts to what the endpoint admits.

    A few refusals are bad luck. When they pile up, each shows how many calls are admitted: those in flight at that
    moment. So the limit falls to that number at once, however far off it was, and further while refusals go on. After a
    round of answers, one more call is tried; if it is admitted, two more, then four, so a limit that is gone is soon
    forgotten. If it is refused, the next try is a hundred answers later (fewer for a low limit, more for a high one),
    so a steady limit costs one refusal in a hundred calls.

    Attributes:
        limit: How many calls may be in flight now.
        epoch: Counts the changes of the limit.
    """

    def __init__(self, most: int) -> None:
        self.limit = most
        self.epoch = 0
        self._most = most
        self._proven = most  # a limit that held for two rounds, since a refusal may take as long as an answer
        self._tested = most  # the limit of the last round
        self._fell = 0  # the epoch that began when the limit last fell below what was proven
        self._step = 1  # by how much the limit rises next
        self._chronic = 0.0  # refusals that the limit does not explain, beyond those that are tolerated
        self._heat = 0  # how far refusals outweigh answers
        self._answered = self._late = 0
        self._round = most  # answers until the limit is judged

    @property
    def is_refusing(self) -> bool:
        """Whether refusals are more than bad luck."""
        return self._heat == _HOT

    @property
    def is_hot(self) -> bool:
        """Whether refusals are more than bad luck, or go on although the limit was lowered."""
        return self._heat == _HOT or self._chronic >= _CHRONIC

    def resize(self, most: int) -> int:
        """Changes the upper bound of the limit and returns it; a limit below it, found by refusals, stays."""
        if most == self._most:
            return most
        if self.limit < self._most:
            self._most = max(most, self.limit + 1)
        else:
            self._most = self._proven = self._tested = most
            self._change(most)
        return self._most

    def answered(self) -> bool:
        """Records a call that was admitted and has ended. Returns whether that ends a round without a fall."""
        self._answered += 1
        self._heat = max(0, self._heat - 1)
        self._chronic = max(0.0, self._chronic - _BEARABLE)
        return self._answered + self._late >= self._round and self._judge()

    def timed_out(self) -> None:
        """Records a timeout. A few may be long answers; many mean that too many calls are in flight."""
        self._late += 1
        if self._answered + self._late >= self._round:
            self._judge()

    def refused(self, epoch: int, in_flight: int) -> bool:
        """Records that a call which began in `epoch` was refused, while `in_flight` others were admitted.

        Returns whether concurrency cannot be the reason: calls are refused although no other one is in flight.
        """
        self._chronic += epoch >= self._fell
        was_alone = self.limit == 1 and epoch >= self._fell
        if self.limit > self._proven:  # the limit was being tried
            self._fall(max(self._proven, min(self.limit - 1, in_flight)), patience=10)
        elif epoch < self._fell:  # it began before the limit fell
            self._fall(min(self.limit, in_flight), patience=10)
        else:
            self._heat = min(_HOT, self._heat + 2)
            if self._heat == _HOT and self.limit > 1:
                fitting = min(self.limit - 1, in_flight)
                self._fall(fitting - fitting // 8)
        return was_alone and self._heat == _HOT

    def _judge(self) -> bool:
        """Ends a round and sets the limit for the next one."""
        late = self._late / (self._answered + self._late)
        if late > _SLOW:
            self._fall(int(self.limit * (1 - late / 2)))
            return False
        self._proven, self._tested = self._tested, self.limit
        if self.limit < self._most:
            self._heat = 0
            self._change(min(self._most, self.limit + self._step))
            self._step *= 2
        else:
            self._change(self.limit)
        return True

    def _fall(self, limit: int, patience: int = 1) -> None:
        """Lowers the limit; the more patience, the later the next try to raise it."""
        limit = max(1, limit)
        self._change(limit, max(min(patience, 2) * limit, min(100, patience * limit)))
        self._tested, self._step = limit, 1
        if limit < self._proven:
            self._proven, self._fell = limit, self.epoch

    def _change(self, limit: int, answers: int = 0) -> None:
        """Sets the limit and begins a new round of at least so many answers."""
        self.limit = limit
        self.epoch += 1
        self._round = max(limit, answers)
        self._answered = self._late = 0
