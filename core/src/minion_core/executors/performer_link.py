"""What the supervisor knows of one performer, and the two sockets between them.

Jobs go one by one into a socket that keeps messages apart, of which the performer takes the next only when it
is about to perform it. The supervisor keeps the performer's end of it, too: what waits there it can take
back, and the kernel decides who was first. So jobs may be lined up behind one that is being performed, and
are neither lost nor blamed when that one takes long, or takes its process down. All else goes through a
stream: what the performer says, and the rare job that is too large for a message.
"""

from __future__ import annotations

import marshal
import selectors
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from minion_core.executors import wire
from minion_core.executors.frames import Channel
from minion_core.executors.wire import Attempt

if TYPE_CHECKING:
    from minion_core.records import ClaimedJob

LARGEST_MESSAGE = 16_384
"""What is longer goes through the stream, and never waits behind another job."""


class PerformerLink:
    """One performer.

    Attributes:
        number: What the zygote calls it.
        pid: Its process, once that is known.
        jobs: Those in its hands, in the order in which it gets them; by attempt, since the next one of a job
            may come before an earlier one is over: its lease has ended, or somebody retried it.
        since: When the first of them was begun, as far as the supervisor can tell.
        others: Those that a job being performed has claimed (JOB-07), by its attempt.
        claiming: The attempts that are just claiming others.
        handed: How many jobs it got so far.
        ready: Whether it has said that it can perform.
        retiring: Whether it gets no more jobs.
        orphan: Whether the zygote that forked it has died, so that nobody will tell of its end.
        kill_at: When it is killed if it has not ended by then.
        timed_out: How long the job took that it was killed for.
    """

    def __init__(self, number: int, capacity: int) -> None:
        """Make the sockets; their other ends are ``theirs`` until ``forked``.

        Args:
            number: What the zygote calls it.
            capacity: How many jobs it performs at a time.
        """
        self.number = number
        self.capacity = capacity
        self.pid: int | None = None
        self.channel: Channel
        self.jobs: dict[Attempt, ClaimedJob] = {}
        self.since = 0.0
        self.others: dict[Attempt, list[ClaimedJob]] = {}
        self.claiming: set[Attempt] = set()
        self.handed = 0
        self.ready = False
        self.retiring = False
        self.orphan = False
        self.kill_at: float | None = None
        self.timed_out: float | None = None
        self._line, self._line_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._stream, self._stream_end = socket.socketpair()
        self._line.setblocking(False)
        self._line_end.set_inheritable(False)

    def tell(self, how: bytes) -> None:
        """Put the first message into the line: how it is to perform."""
        self._line.send(how)

    @property
    def theirs(self) -> list[int]:
        """The ends that the performer gets."""
        return [self._line_end.fileno(), self._stream_end.fileno()]

    def forked(
        self, selector: selectors.BaseSelector, on_message: Callable[[Any], None], on_end: Callable[[], None]
    ) -> None:
        """Listen to what it says, now that its ends were passed on."""
        self._stream_end.close()
        self.channel = Channel(self._stream, selector, on_message, on_end)

    def not_forked(self) -> None:
        """Let go of everything: nobody got the other ends."""
        for sock in (self._line, self._line_end, self._stream, self._stream_end):
            sock.close()

    @property
    def free(self) -> int:
        """How many more jobs it could begin now."""
        if not self.ready or self.retiring or not self.channel.open:
            return 0
        return max(0, self.capacity - len(self.jobs))

    @property
    def first(self) -> ClaimedJob | None:
        """The job that it performs, if it performs one at a time."""
        return next(iter(self.jobs.values()), None)

    def hand(self, job: ClaimedJob, claimed_at: float, *, last: bool) -> bool:
        """Hand a job over; ``False`` when it could only wait, and is too large for that.

        Raises:
            ValueError: The job is nested too deeply to be sent at all.
        """
        message = marshal.dumps((wire.write_job(job, claimed_at), last))
        if not self._send(message):
            if len(self.jobs) >= self.capacity:
                return False
            if not self._send(marshal.dumps((wire.attempt(job), len(message)))):
                return False
            self.channel.send(message)
        if not self.jobs:
            self.since = time.monotonic()
        self.jobs[wire.attempt(job)] = job
        self.handed += 1
        return True

    def _send(self, message: bytes) -> bool:
        if len(message) > LARGEST_MESSAGE:
            return False
        try:
            self._line.send(message)
        except ConnectionError:
            return True  # it has ended: whoever tells so finds the job in its hands
        except OSError:  # the line is full, or the kernel's memory is
            return False
        return True

    def take_back(self) -> list[ClaimedJob]:
        """Take back the jobs that it has not begun."""
        back: list[ClaimedJob] = []
        while self.ready and self._line_end.fileno() >= 0:  # before that, it has yet to be told how
            try:
                message = self._line_end.recv(65_536, socket.MSG_DONTWAIT)
            except OSError:
                break
            if not message:
                break
            content, _ = marshal.loads(message)  # noqa: S302  # our own
            large = wire.is_large(content)
            if large:
                # The job itself is in the stream, where the next one would be taken for it.
                self.retiring = True
            job = self.jobs.pop(content if large else wire.attempt_of(content), None)
            if job is not None:
                back.append(job)
        self.handed -= len(back)
        return back

    def close(self) -> None:
        """Close the sockets: it ends when it sees that."""
        self.channel.close()
        self._line.close()
        self._line_end.close()
