"""Other queues, drained the way that their own users would, where they are installed."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from typing import Any

MINION = r"""
use Minion; use Time::HiRes 'time';
my ($kind, $store, $count) = @ARGV;
my $minion = Minion->new($kind => $store);
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


def measure_peers(url: str, count: int) -> dict[str, Any]:
    """Answer the figures of the peers that are installed and can use the same kind of store."""
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for kind, module, store in [
            ("SQLite", "Minion::Backend::SQLite", f"sqlite:{folder}/minion.db"),
            ("Pg", "Mojo::Pg", url),
        ]:
            if url.startswith("sqlite" if kind == "SQLite" else "postgres") and _has_perl(module):
                rate = float(_perl(MINION, kind, store, str(count)))
                figures["Minion (Perl), a fork per job, 4 jobs"] = {"jobs_per_second": rate}
    return figures


def _has_perl(module: str) -> bool:
    if shutil.which("perl") is None:
        return False
    return subprocess.run(["perl", f"-M{module}", "-e1"], capture_output=True, check=False).returncode == 0


def _perl(script: str, *arguments: str) -> str:
    done = subprocess.run(["perl", "-e", script, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip().splitlines()[-1]
