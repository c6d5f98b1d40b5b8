"""The schema on SQLite, step by step.

Instants and lengths of time are whole microseconds. Every index on jobs is partial, so that a job stands
only in those that its state needs, and what has ended or cannot be claimed costs a claim nothing.
AUTOINCREMENT keeps ids from being used again.
"""

from minion_core.sql import Migration

MIGRATIONS = (
    Migration(
        1,
        "jobs, workers, locks and schedules",
        (
            "CREATE TABLE IF NOT EXISTS minion_migrations (number INTEGER PRIMARY KEY)",
            """CREATE TABLE minion_jobs (
                id            INTEGER PRIMARY KEY AUTOINCREMENT,
                args          TEXT NOT NULL,
                attempts      INTEGER NOT NULL DEFAULT 1,
                "coalesce"    TEXT,
                created       INTEGER NOT NULL,
                delayed       INTEGER NOT NULL,
                due           INTEGER,
                exit_status   INTEGER,
                expires       INTEGER,
                failures      INTEGER NOT NULL DEFAULT 0,
                finished      INTEGER,
                grabbed_until INTEGER,
                hold          INTEGER NOT NULL DEFAULT 0,
                keep_for      INTEGER,
                kwargs        TEXT NOT NULL DEFAULT '{}',
                lax           INTEGER NOT NULL DEFAULT 0,
                lease         INTEGER,
                notes         TEXT NOT NULL DEFAULT '{}',
                parents       TEXT NOT NULL DEFAULT '[]',
                priority      INTEGER NOT NULL DEFAULT 0,
                queue         TEXT NOT NULL DEFAULT 'default',
                result        TEXT,
                retried       INTEGER,
                retries       INTEGER NOT NULL DEFAULT 0,
                started       INTEGER,
                state         TEXT NOT NULL DEFAULT 'inactive'
                              CHECK (state IN ('inactive', 'active', 'failed', 'finished')),
                task          TEXT NOT NULL,
                uniqkey       TEXT,
                worker        INTEGER
            )""",
            # What a claim reads: one range per queue and task, in the order of CLAIM-02.
            """CREATE INDEX minion_jobs_ready ON minion_jobs (queue, task, priority DESC, id)
                WHERE state = 'inactive' AND hold = 0""",
            """CREATE INDEX minion_jobs_coalesce ON minion_jobs (queue, task, "coalesce", priority DESC, id)
                WHERE state = 'inactive' AND hold = 0 AND "coalesce" IS NOT NULL""",
            """CREATE INDEX minion_jobs_due ON minion_jobs (due)
                WHERE due IS NOT NULL AND state IN ('inactive', 'active')""",
            # Statistics and repair of what waits, however it is held.
            """CREATE INDEX minion_jobs_inactive ON minion_jobs (delayed, expires)
                WHERE state = 'inactive'""",
            """CREATE INDEX minion_jobs_active ON minion_jobs (worker)
                WHERE state = 'active'""",
            """CREATE INDEX minion_jobs_ended ON minion_jobs (state, finished)
                WHERE state IN ('finished', 'failed')""",
            """CREATE INDEX minion_jobs_kept ON minion_jobs (due)
                WHERE due IS NOT NULL AND state IN ('finished', 'failed')""",
            """CREATE UNIQUE INDEX minion_jobs_key ON minion_jobs (task, uniqkey)
                WHERE uniqkey IS NOT NULL AND state IN ('inactive', 'active')""",
            """CREATE TABLE minion_job_edges (
                child  INTEGER NOT NULL,
                parent INTEGER NOT NULL,
                PRIMARY KEY (child, parent)
            ) WITHOUT ROWID""",
            "CREATE INDEX minion_job_edges_parent ON minion_job_edges (parent, child)",
            """CREATE TABLE minion_failures (
                id      INTEGER PRIMARY KEY AUTOINCREMENT,
                job     INTEGER NOT NULL,
                message TEXT NOT NULL,
                time    INTEGER NOT NULL,
                worker  INTEGER,
                retries INTEGER NOT NULL
            )""",
            "CREATE INDEX minion_failures_job ON minion_failures (job, id)",
            """CREATE TABLE minion_workers (
                id       INTEGER PRIMARY KEY AUTOINCREMENT,
                host     TEXT NOT NULL,
                inbox    TEXT NOT NULL DEFAULT '[]',
                notified INTEGER NOT NULL,
                pid      INTEGER NOT NULL,
                started  INTEGER NOT NULL,
                status   TEXT NOT NULL DEFAULT '{}'
            )""",
            """CREATE TABLE minion_locks (
                id      INTEGER PRIMARY KEY AUTOINCREMENT,
                name    TEXT NOT NULL,
                expires INTEGER NOT NULL
            )""",
            "CREATE INDEX minion_locks_name ON minion_locks (name, expires)",
            """CREATE TABLE minion_schedules (
                id        INTEGER PRIMARY KEY AUTOINCREMENT,
                args      TEXT NOT NULL,
                attempts  INTEGER NOT NULL,
                created   INTEGER NOT NULL,
                cron      TEXT NOT NULL,
                expire    INTEGER,
                kwargs    TEXT NOT NULL,
                last_job  INTEGER,
                last_run  INTEGER,
                lax       INTEGER NOT NULL,
                name      TEXT NOT NULL UNIQUE,
                next_run  INTEGER NOT NULL,
                notes     TEXT NOT NULL,
                paused    INTEGER NOT NULL,
                priority  INTEGER NOT NULL,
                queue     TEXT NOT NULL,
                task      TEXT NOT NULL,
                time_zone TEXT NOT NULL
            )""",
        ),
    ),
)
