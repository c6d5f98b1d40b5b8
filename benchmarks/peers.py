"""Other queues, drained the way that their own users would, where they are installed.

Each is a script of its own, which gets a store and a number of jobs, drains no-ops, and prints a rate.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

from attrs import frozen

MINION = r"""
use Minion; use Time::HiRes 'time';
my ($kind, $store, $count) = @ARGV;
my $minion = Minion->new($kind => $kind eq 'SQLite' ? "sqlite:$store" : $store);
$minion->reset({all => 1});
$minion->add_task(noop => sub { });
$minion->enqueue(noop => [$_], {attempts => 2}) for 1 .. $count;
my $worker = $minion->worker;
$worker->status->{jobs} = 4;
$worker->status->{spare} = 0;
my $begun = 0;
$worker->on(dequeue => sub { $begun++ });
$worker->on(wait => sub { kill 'INT', $$ if $begun >= $count });
my $start = time;
$worker->run;
my $finished = $minion->stats->{finished_jobs};
die "only $finished jobs were finished" if $finished < $count;
printf "%f\n", $count / (time - $start);
"""

HUEY = """
import sys, time
from huey import SqliteHuey
file, count = sys.argv[1], int(sys.argv[2])
huey = SqliteHuey(filename=file, fsync=True, results=False)

@huey.task()
def noop(number):
    pass

for number in range(count):
    noop(number)
consumer = huey.create_consumer(workers=4, worker_type="thread", periodic=False, initial_delay=0.01)
start = time.monotonic()
consumer.start()
while huey.pending_count():
    time.sleep(0.01)
print(count / (time.monotonic() - start))
consumer.stop(graceful=True)
"""

PGQUEUER = """
import asyncio, sys, time
import asyncpg
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.queries import Queries

async def main(url, count):
    driver = AsyncpgDriver(await asyncpg.connect(url))
    queries = Queries(driver)
    await queries.install()
    await queries.enqueue(["noop"] * count, [b"1"] * count, [0] * count)
    queue, done = PgQueuer(driver), 0

    @queue.entrypoint("noop")
    async def noop(job):
        nonlocal done
        done += 1
        if done == count:
            queue.shutdown.set()

    start = time.monotonic()
    await queue.run(batch_size=100)
    print(count / (time.monotonic() - start))
    await queries.uninstall()

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""

PROCRASTINATE = """
import asyncio, sys, time
import procrastinate

async def main(url, count):
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=url))

    @app.task
    async def noop(number):
        pass

    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        await noop.batch_defer_async(*[{"number": number} for number in range(count)])
        start = time.monotonic()
        await app.run_worker_async(concurrency=10, wait=False, install_signal_handlers=False)
        print(count / (time.monotonic() - start))

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


@frozen
class Peer:
    """Another queue; ``slow`` ones drain a tenth of the jobs."""

    title: str
    scheme: str
    needs: Sequence[str]
    command: Sequence[str]
    slow: bool = False


PYTHON = (sys.executable, "-c")
PEERS = (
    Peer(
        "Minion (Perl), a fork per job, 4 jobs",
        "sqlite",
        ("Minion::Backend::SQLite",),
        ("perl", "-e", MINION, "SQLite"),
        slow=True,
    ),
    Peer(
        "Minion (Perl), a fork per job, 4 jobs",
        "postgres",
        ("Minion", "Mojo::Pg"),
        ("perl", "-e", MINION, "Pg"),
        slow=True,
    ),
    Peer("huey, 4 threads, fsync", "sqlite", ("huey",), (*PYTHON, HUEY)),
    Peer("pgqueuer, asyncpg, batch 100", "postgres", ("pgqueuer", "asyncpg"), (*PYTHON, PGQUEUER)),
    Peer(
        "procrastinate, concurrency 10", "postgres", ("procrastinate",), (*PYTHON, PROCRASTINATE), slow=True
    ),
)


def measure_peers(url: str, count: int) -> dict[str, Any]:
    """Answer the figures of the peers that are installed and can use the same kind of store."""
    figures: dict[str, Any] = {}
    for peer in PEERS:
        if url.startswith(peer.scheme) and all(_is_installed(peer, name) for name in peer.needs):
            with tempfile.TemporaryDirectory() as folder:
                store = f"{folder}/peer.db" if peer.scheme == "sqlite" else url
                done = subprocess.run(
                    [*peer.command, store, str(count // 10 if peer.slow else count)],
                    stdout=subprocess.PIPE,
                    text=True,
                    check=True,
                )
            figures[peer.title] = {"jobs_per_second": float(done.stdout.strip().splitlines()[-1])}
    return figures


def _is_installed(peer: Peer, name: str) -> bool:
    if peer.command[0] != "perl":
        return importlib.util.find_spec(name) is not None
    if shutil.which("perl") is None:
        return False
    return subprocess.run(["perl", f"-M{name}", "-e1"], capture_output=True, check=False).returncode == 0
