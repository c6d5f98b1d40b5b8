"""The schema on MySQL and MariaDB, step by step.

Instants and lengths of time are whole microseconds. Names are VARBINARY, since no collation that both
servers know compares text by its bytes, trailing blanks included. JSON is text: MySQL's own type for it
changes large integers. There are no partial indexes, hence computed columns that are null where a job has
no business in an index.

A statement that makes a table ends the transaction it stands in, so a migration can be cut short; all of
them bear being run again.
"""

from minion_core.sql import Migration

GUARDS = 64
"""How many rows guard the counting of shares of locks; a lock's name says which one is its."""

SLOTS = ", ".join(f"({slot})" for slot in range(GUARDS))

TABLE = "ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"

MIGRATIONS = (
    Migration(
        1,
        "jobs, workers, locks and schedules",
        (
            f"CREATE TABLE IF NOT EXISTS minion_migrations (number INT NOT NULL PRIMARY KEY) {TABLE}",
            # ready and turn make the index that claims read: ``turn`` is -priority, because MariaDB has
            # descending indexes only from 10.8. live_key makes keys unique among live jobs.
            f"""CREATE TABLE IF NOT EXISTS minion_jobs (
                id             BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
                args           LONGTEXT NOT NULL,
                attempts       INT NOT NULL DEFAULT 1,
                `coalesce`     VARBINARY(1020),
                created        BIGINT NOT NULL,
                `delayed`      BIGINT NOT NULL,
                due            BIGINT,
                exit_status    INT,
                expires        BIGINT,
                failures       INT NOT NULL DEFAULT 0,
                finished       BIGINT,
                grabbed_until  BIGINT,
                hold           TINYINT NOT NULL DEFAULT 0,
                keep_for       BIGINT,
                kwargs         LONGTEXT NOT NULL,
                lax            TINYINT(1) NOT NULL DEFAULT 0,
                lease          BIGINT,
                notes          LONGTEXT NOT NULL,
                parents        LONGTEXT NOT NULL,
                priority       INT NOT NULL DEFAULT 0,
                queue          VARBINARY(1020) NOT NULL,
                result         LONGTEXT,
                retried        BIGINT,
                retries        INT NOT NULL DEFAULT 0,
                started        BIGINT,
                state          ENUM('inactive', 'active', 'failed', 'finished') NOT NULL DEFAULT 'inactive',
                task           VARBINARY(1020) NOT NULL,
                uniqkey        VARBINARY(1020),
                worker         BIGINT,
                ready          TINYINT GENERATED ALWAYS AS
                               (CASE WHEN state = 'inactive' AND hold = 0 THEN 1 END) STORED,
                ready_coalesce VARBINARY(1020) GENERATED ALWAYS AS
                               (CASE WHEN state = 'inactive' AND hold = 0 THEN `coalesce` END) STORED,
                turn           BIGINT GENERATED ALWAYS AS (-priority) STORED,
                live_key       VARBINARY(1020) GENERATED ALWAYS AS
                               (CASE WHEN state IN ('inactive', 'active') THEN uniqkey END) STORED,
                KEY minion_jobs_ready (ready, queue, task, turn, id),
                KEY minion_jobs_coalesce (ready_coalesce, task, turn, id),
                KEY minion_jobs_due (state, due, id),
                KEY minion_jobs_ended (finished, state, id),
                UNIQUE KEY minion_jobs_key (task, live_key)
            ) {TABLE}""",
            f"""CREATE TABLE IF NOT EXISTS minion_job_edges (
                child  BIGINT NOT NULL,
                parent BIGINT NOT NULL,
                PRIMARY KEY (child, parent),
                KEY minion_job_edges_parent (parent, child)
            ) {TABLE}""",
            f"""CREATE TABLE IF NOT EXISTS minion_failures (
                id      BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
                job     BIGINT NOT NULL,
                message LONGTEXT NOT NULL,
                time    BIGINT NOT NULL,
                worker  BIGINT,
                retries INT NOT NULL,
                KEY minion_failures_job (job, id)
            ) {TABLE}""",
            f"""CREATE TABLE IF NOT EXISTS minion_workers (
                id       BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
                host     LONGTEXT NOT NULL,
                inbox    LONGTEXT NOT NULL,
                notified BIGINT NOT NULL,
                pid      BIGINT NOT NULL,
                started  BIGINT NOT NULL,
                status   LONGTEXT NOT NULL
            ) {TABLE}""",
            f"""CREATE TABLE IF NOT EXISTS minion_locks (
                id      BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
                name    VARBINARY(1020) NOT NULL,
                expires BIGINT NOT NULL,
                KEY minion_locks_name (name, expires, id)
            ) {TABLE}""",
            f"CREATE TABLE IF NOT EXISTS minion_lock_guards (slot INT NOT NULL PRIMARY KEY) {TABLE}",
            f"INSERT IGNORE INTO minion_lock_guards (slot) VALUES {SLOTS}",
            f"""CREATE TABLE IF NOT EXISTS minion_schedules (
                id        BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
                args      LONGTEXT NOT NULL,
                attempts  INT NOT NULL,
                created   BIGINT NOT NULL,
                cron      LONGTEXT NOT NULL,
                expire    BIGINT,
                kwargs    LONGTEXT NOT NULL,
                last_job  BIGINT,
                last_run  BIGINT,
                lax       TINYINT(1) NOT NULL,
                name      VARBINARY(1020) NOT NULL,
                next_run  BIGINT NOT NULL,
                notes     LONGTEXT NOT NULL,
                paused    TINYINT(1) NOT NULL,
                priority  INT NOT NULL,
                queue     VARBINARY(1020) NOT NULL,
                task      VARBINARY(1020) NOT NULL,
                time_zone LONGTEXT NOT NULL,
                UNIQUE KEY minion_schedules_name (name)
            ) {TABLE}""",
        ),
    ),
)
