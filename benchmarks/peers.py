"""Other queues, drained the way that their own users would, where they are installed."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from typing import Any

MINION_SQLITE = r"""
use Minion; use Time::HiRes 'time';
my ($file, $count) = @ARGV;
my $minion = Minion->new(SQLite => "sqlite:$file");
$minion->add_task(noop => sub { });
$minion->enqueue(noop => [$_], {attempts => 2}) for 1 .. $count;
my $worker = $minion->worker;
$worker->status->{jobs} = 4;
$worker->status->{spare} = 0;
my $start = time;
$worker->on(busy => sub { select undef, undef, undef, 0.0005 });
$worker->on(wait => sub { kill 'INT', $$ });
$worker->run;
printf "%f\n", $minion->stats->{finished_jobs} / (time - $start);
"""


def measure_peers(url: str, count: int) -> dict[str, Any]:
    """Answer the figures of the peers that are installed and can use the same kind of store."""
    figures: dict[str, Any] = {}
    if shutil.which("perl") and url.startswith("sqlite") and _has_perl("Minion::Backend::SQLite"):
        with tempfile.TemporaryDirectory() as folder:
            answer = _perl(MINION_SQLITE, f"{folder}/minion.db", str(count))
        figures["Minion (Perl), a fork per job, 4 jobs"] = {"jobs_per_second": float(answer)}
    return figures


def _has_perl(module: str) -> bool:
    return subprocess.run(["perl", f"-M{module}", "-e1"], capture_output=True, check=False).returncode == 0


def _perl(script: str, *arguments: str) -> str:
    done = subprocess.run(["perl", "-e", script, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip().splitlines()[-1]
