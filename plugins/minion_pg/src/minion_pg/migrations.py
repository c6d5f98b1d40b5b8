"""The schema on PostgreSQL: Minion's own tables, and what stands beside and upon them.

Both sides may have made the tables, so everything is made only where it is missing, and whatever we add has
a default that Perl's statements can leave alone. Four things keep the two worlds in step.

``touched``
    Every statement of ours raises it, none of Perl's knows it. Triggers fire only where it stayed the same,
    so they bridge what Perl writes and cost our own writes next to nothing. All but one are AFTER triggers:
    a BEFORE UPDATE trigger would lock every row once more, whatever its condition.
``fence``
    ``retries`` as we last saw them. A retry by Perl leaves it behind, which takes the job out of the unique
    index of live keys: nothing that Perl does can meet that index. The trigger then takes the key again if
    it is free; if it is not, the job loses it.
``minion_release``
    Puts ``hold = 0`` on the children of jobs that ended, went back or are gone. It reads the edges with a
    snapshot of its own, taken after the parents' rows were locked.
``minion_wake``
    NOTIFYs when somebody waits: a process of ours that wrote so into ``minion_waiters``, or any registered
    worker that is not ours. The first who notifies takes the waiters away, so the next ones need not.
"""

from minion_core.records import LEASE_ENDED, LEASE_ENDS_ALLOWED
from minion_core.sql import Migration

MOJO_OLDEST, MOJO_VERSION, MOJO_NEWEST = 18, 23, 25
"""Of Minion's own migrations: the oldest that we take over, what a new database says (Minion 10.25 accepts
nothing above it), the newest that we know."""

SWEEP = 500
"""How many due rows one sweep takes up."""

READY = "(CASE WHEN state = 'inactive' THEN hold END) = 0"
"""What the index of claims shows, to be repeated to the letter by whoever wants to read it."""

# -- What Minion's migrations 18 to 23 make ----------------------------------------------------------------

_MINIONS_OWN = (
    "CREATE TABLE IF NOT EXISTS minion_migrations (number INTEGER PRIMARY KEY)",
    """DO $$ BEGIN
        CREATE TYPE minion_state AS ENUM ('inactive', 'active', 'failed', 'finished');
    EXCEPTION WHEN duplicate_object THEN NULL;
    END $$""",
    """CREATE TABLE IF NOT EXISTS minion_jobs (
        id       BIGSERIAL NOT NULL PRIMARY KEY,
        args     JSONB NOT NULL CHECK (JSONB_TYPEOF(args) = 'array'),
        attempts INT NOT NULL DEFAULT 1,
        created  TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT NOW(),
        delayed  TIMESTAMP WITH TIME ZONE NOT NULL,
        finished TIMESTAMP WITH TIME ZONE,
        notes    JSONB CHECK (JSONB_TYPEOF(notes) = 'object') NOT NULL DEFAULT '{}',
        parents  BIGINT[] NOT NULL DEFAULT '{}',
        priority INT NOT NULL,
        queue    TEXT NOT NULL DEFAULT 'default',
        result   JSONB,
        retried  TIMESTAMP WITH TIME ZONE,
        retries  INT NOT NULL DEFAULT 0,
        started  TIMESTAMP WITH TIME ZONE,
        state    minion_state NOT NULL DEFAULT 'inactive'::minion_state,
        task     TEXT NOT NULL,
        worker   BIGINT
    )""",
    """CREATE TABLE IF NOT EXISTS minion_workers (
        id       BIGSERIAL NOT NULL PRIMARY KEY,
        host     TEXT NOT NULL,
        inbox    JSONB CHECK (JSONB_TYPEOF(inbox) = 'array') NOT NULL DEFAULT '[]',
        notified TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT NOW(),
        pid      INT NOT NULL,
        started  TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT NOW(),
        status   JSONB CHECK (JSONB_TYPEOF(status) = 'object') NOT NULL DEFAULT '{}'
    )""",
    """CREATE TABLE IF NOT EXISTS minion_locks (
        id      BIGSERIAL NOT NULL PRIMARY KEY,
        name    TEXT NOT NULL,
        expires TIMESTAMP WITH TIME ZONE NOT NULL
    )""",
    "CREATE INDEX IF NOT EXISTS minion_locks_name_expires_idx ON minion_locks (name, expires)",
    """ALTER TABLE minion_jobs
        ADD COLUMN IF NOT EXISTS expires TIMESTAMP WITH TIME ZONE,
        ADD COLUMN IF NOT EXISTS lax BOOL NOT NULL DEFAULT FALSE""",
    """CREATE OR REPLACE FUNCTION minion_lock(TEXT, INT, INT) RETURNS BOOL AS $$
    DECLARE
        new_expires TIMESTAMP WITH TIME ZONE = NOW() + (INTERVAL '1 second' * $2);
    BEGIN
        LOCK TABLE minion_locks IN EXCLUSIVE MODE;
        DELETE FROM minion_locks WHERE expires < NOW();
        IF (SELECT COUNT(*) >= $3 FROM minion_locks WHERE name = $1) THEN
            RETURN FALSE;
        END IF;
        IF new_expires > NOW() THEN
            INSERT INTO minion_locks (name, expires) VALUES ($1, new_expires);
        END IF;
        RETURN TRUE;
    END;
    $$ LANGUAGE plpgsql""",
    """CREATE TABLE IF NOT EXISTS mojo_migrations (
        name    TEXT PRIMARY KEY,
        version BIGINT NOT NULL CHECK (version >= 0)
    )""",
    f"""INSERT INTO mojo_migrations (name, version) VALUES ('minion', {MOJO_VERSION})
        ON CONFLICT (name) DO UPDATE SET version = GREATEST(mojo_migrations.version, EXCLUDED.version)""",
)

# -- What we add ---------------------------------------------------------------------------------------------

_ADDITIONS = (
    # Locks and registered workers survive a crash of the server.
    "ALTER TABLE minion_workers SET LOGGED",
    "ALTER TABLE minion_locks SET LOGGED",
    """ALTER TABLE minion_jobs
        ALTER COLUMN queue TYPE TEXT COLLATE "C",
        ALTER COLUMN task TYPE TEXT COLLATE "C",
        ADD COLUMN kwargs JSONB NOT NULL DEFAULT '{}',
        ADD COLUMN "coalesce" TEXT COLLATE "C",
        ADD COLUMN uniqkey TEXT COLLATE "C",
        ADD COLUMN lease DOUBLE PRECISION,
        ADD COLUMN grabbed_until TIMESTAMP WITH TIME ZONE,
        ADD COLUMN keep_for DOUBLE PRECISION,
        ADD COLUMN exit_status INT,
        ADD COLUMN failures INT NOT NULL DEFAULT 0,
        ADD COLUMN hold SMALLINT NOT NULL DEFAULT 0,
        ADD COLUMN due TIMESTAMP WITH TIME ZONE,
        ADD COLUMN fence INT NOT NULL DEFAULT 0,
        ADD COLUMN touched INT NOT NULL DEFAULT 0""",
    # A claim walks over the entries of what was claimed since the last vacuum, so that comes early, and is
    # not slowed down as much as by default.
    """ALTER TABLE minion_jobs SET (autovacuum_vacuum_scale_factor = 0.02,
        autovacuum_vacuum_cost_limit = 1000, autovacuum_analyze_scale_factor = 0.05)""",
    "ALTER TABLE minion_workers ADD COLUMN ours BOOLEAN NOT NULL DEFAULT FALSE",
    'ALTER TABLE minion_locks ALTER COLUMN name TYPE TEXT COLLATE "C"',
    # Jobs that were there before.
    """UPDATE minion_jobs SET fence = retries, hold = CASE
            WHEN state <> 'inactive' THEN 0
            WHEN expires <= NOW() THEN 3
            WHEN delayed > NOW() THEN 1
            ELSE 0 END,
        due = CASE
            WHEN state <> 'inactive' OR expires <= NOW() THEN NULL
            WHEN delayed > NOW() THEN LEAST(delayed, expires)
            ELSE expires END
        WHERE state = 'inactive' OR retries <> 0""",
    # Minion's own indexes hold every job there ever was. Its claim and its history are served by two of
    # ours; the GIN indexes cost every write, and only the listing of children and of notes read them.
    "DROP INDEX IF EXISTS minion_jobs_state_priority_id_idx",
    "DROP INDEX IF EXISTS minion_jobs_parents_idx",
    "DROP INDEX IF EXISTS minion_jobs_notes_idx",
    "DROP INDEX IF EXISTS minion_jobs_expires_idx",
    "DROP INDEX IF EXISTS minion_jobs_finished_state_idx",
    # What a claim of ours reads: one range per queue and task, in the order of CLAIM-02. The condition is
    # written so that only these two indexes can serve a query that repeats it, whatever the statistics say.
    f"""CREATE INDEX minion_jobs_ready ON minion_jobs (queue, task, priority DESC, id)
        WHERE {READY}""",
    f"""CREATE INDEX minion_jobs_coalesce ON minion_jobs (queue, task, "coalesce", priority DESC, id)
        WHERE {READY} AND "coalesce" IS NOT NULL""",
    # What a claim of Perl's reads.
    "CREATE INDEX minion_jobs_inactive ON minion_jobs (priority DESC, id) WHERE state = 'inactive'",
    """CREATE INDEX minion_jobs_due ON minion_jobs (due)
        WHERE due IS NOT NULL AND state IN ('inactive', 'active')""",
    """CREATE INDEX minion_jobs_kept ON minion_jobs (due)
        WHERE due IS NOT NULL AND state IN ('finished', 'failed')""",
    "CREATE INDEX minion_jobs_active ON minion_jobs (worker) WHERE state = 'active'",
    "CREATE INDEX minion_jobs_ended ON minion_jobs (finished, state) WHERE finished IS NOT NULL",
    """CREATE UNIQUE INDEX minion_jobs_key ON minion_jobs (task, uniqkey)
        WHERE uniqkey IS NOT NULL AND state IN ('inactive', 'active') AND fence = retries""",
    """CREATE TABLE minion_job_edges (
        child  BIGINT NOT NULL,
        parent BIGINT NOT NULL,
        PRIMARY KEY (child, parent)
    )""",
    "CREATE INDEX minion_job_edges_parent ON minion_job_edges (parent, child)",
    """INSERT INTO minion_job_edges (child, parent)
        SELECT DISTINCT id, UNNEST(parents) FROM minion_jobs WHERE parents <> '{}'""",
    """CREATE TABLE minion_failures (
        id      BIGSERIAL PRIMARY KEY,
        job     BIGINT NOT NULL,
        message TEXT NOT NULL,
        time    TIMESTAMP WITH TIME ZONE NOT NULL,
        worker  BIGINT,
        retries INT NOT NULL
    )""",
    "CREATE INDEX minion_failures_job ON minion_failures (job, id)",
    # Apart from Minion 12's minion_schedules: it knows neither our time zones nor kwargs.
    """CREATE TABLE minion_timetable (
        id        BIGSERIAL PRIMARY KEY,
        args      JSONB NOT NULL,
        attempts  INT NOT NULL,
        created   TIMESTAMP WITH TIME ZONE NOT NULL,
        cron      TEXT NOT NULL,
        expire    DOUBLE PRECISION,
        kwargs    JSONB NOT NULL,
        last_job  BIGINT,
        last_run  TIMESTAMP WITH TIME ZONE,
        lax       BOOLEAN NOT NULL,
        name      TEXT COLLATE "C" NOT NULL UNIQUE,
        next_run  TIMESTAMP WITH TIME ZONE NOT NULL,
        notes     JSONB NOT NULL,
        paused    BOOLEAN NOT NULL,
        priority  INT NOT NULL,
        queue     TEXT COLLATE "C" NOT NULL,
        task      TEXT COLLATE "C" NOT NULL,
        time_zone TEXT NOT NULL
    )""",
    # Who waits. After a crash of the server nobody does.
    """CREATE UNLOGGED TABLE minion_waiters (
        id     BIGSERIAL PRIMARY KEY,
        queues TEXT[] NOT NULL,
        tasks  TEXT[] NOT NULL,
        until  TIMESTAMP WITH TIME ZONE NOT NULL
    )""",
    "CREATE INDEX minion_workers_not_ours ON minion_workers (id) WHERE NOT ours",
)

_FUNCTIONS = (
    """CREATE FUNCTION minion_wake(in_queues TEXT[], of_tasks TEXT[] DEFAULT NULL) RETURNS VOID AS $$
    BEGIN
        IF EXISTS (SELECT 1 FROM minion_workers WHERE NOT ours) THEN
            NOTIFY "minion.job";
            RETURN;
        END IF;
        -- Those whom another transaction is waking already are passed over.
        DELETE FROM minion_waiters WHERE id IN (
            SELECT id FROM minion_waiters
            WHERE queues && in_queues AND (of_tasks IS NULL OR tasks && of_tasks)
            FOR UPDATE SKIP LOCKED);
        IF FOUND THEN
            NOTIFY "minion.job";
        END IF;
    END;
    $$ LANGUAGE plpgsql""",
    """CREATE FUNCTION minion_release(ended BIGINT[], moment TIMESTAMP WITH TIME ZONE) RETURNS VOID AS $$
    DECLARE
        held BIGINT[];
        released TEXT[];
    BEGIN
        SELECT ARRAY_AGG(DISTINCT child) INTO held FROM minion_job_edges WHERE parent = ANY (ended);
        IF held IS NULL THEN
            RETURN;
        END IF;
        -- Not only those that are held: another transaction may be about to hold one. Its lock is waited for.
        PERFORM 1 FROM minion_jobs WHERE id = ANY (held) AND state = 'inactive' ORDER BY id FOR UPDATE;
        WITH changed AS (
            UPDATE minion_jobs SET
                hold = CASE WHEN delayed > moment THEN 1 ELSE 0 END,
                due = CASE WHEN delayed > moment THEN LEAST(delayed, expires) ELSE expires END,
                touched = touched + 1
            WHERE id = ANY (held) AND state = 'inactive' AND hold = 2
            RETURNING queue)
        SELECT ARRAY_AGG(DISTINCT queue) INTO released FROM changed;
        IF released IS NOT NULL THEN
            PERFORM minion_wake(released);
        END IF;
    END;
    $$ LANGUAGE plpgsql SET enable_seqscan = off SET enable_hashjoin = off""",
    """CREATE FUNCTION minion_judge(candidates BIGINT[], moment TIMESTAMP WITH TIME ZONE) RETURNS INT AS $$
    DECLARE
        mine BIGINT[];
        changed INT;
    BEGIN
        SELECT ARRAY_AGG(id) INTO mine FROM (
            SELECT id FROM minion_jobs WHERE id = ANY (candidates) AND state = 'inactive'
            ORDER BY id FOR UPDATE SKIP LOCKED
        ) AS locked;
        -- Held is a job only behind a parent whose row is locked here: whoever ends that parent comes after
        -- us, and sees the edge. A parent that somebody has in hand is left to the next claim.
        WITH wall AS (
            SELECT edge.child, parent.state, parent.expires
            FROM minion_job_edges AS edge
                JOIN minion_jobs AS child ON child.id = edge.child
                JOIN minion_jobs AS parent ON parent.id = edge.parent
            WHERE edge.child = ANY (mine) AND (
                parent.state::TEXT = 'active'
                OR (parent.state::TEXT = 'inactive' AND (parent.expires IS NULL OR parent.expires > moment))
                OR (parent.state::TEXT = 'failed' AND NOT child.lax))
            FOR SHARE OF parent SKIP LOCKED
        ), blocked AS (
            SELECT child, MIN(CASE WHEN state = 'inactive' THEN expires END) AS until FROM wall GROUP BY child
        ), verdict AS (
            SELECT job.id,
                CASE WHEN job.expires <= moment THEN 3 WHEN blocked.child IS NOT NULL THEN 2
                    WHEN job.delayed > moment THEN 1 ELSE 0 END AS hold,
                CASE WHEN job.expires <= moment THEN NULL
                    WHEN blocked.child IS NOT NULL THEN LEAST(job.expires, blocked.until)
                    WHEN job.delayed > moment THEN LEAST(job.delayed, job.expires)
                    ELSE job.expires END AS due
            FROM minion_jobs AS job LEFT JOIN blocked ON blocked.child = job.id WHERE job.id = ANY (mine)
        )
        UPDATE minion_jobs AS job SET hold = verdict.hold, due = verdict.due, touched = touched + 1
        FROM verdict
        WHERE job.id = verdict.id
            AND (job.hold <> verdict.hold OR job.due IS DISTINCT FROM verdict.due);
        GET DIAGNOSTICS changed = ROW_COUNT;
        RETURN changed;
    END;
    $$ LANGUAGE plpgsql SET enable_seqscan = off SET enable_mergejoin = off""",
    f"""CREATE FUNCTION minion_sweep(moment TIMESTAMP WITH TIME ZONE, OUT swept INT, OUT ended INT) AS $$
    DECLARE
        waiting BIGINT[];
        leased BIGINT[];
    BEGIN
        SELECT ARRAY_AGG(id) FILTER (WHERE state = 'inactive'), ARRAY_AGG(id) FILTER (WHERE state = 'active')
        INTO waiting, leased FROM (
            SELECT id, state FROM minion_jobs
            WHERE due <= moment AND due IS NOT NULL AND state IN ('inactive', 'active')
            ORDER BY due LIMIT {SWEEP} FOR UPDATE SKIP LOCKED
        ) AS locked;
        ended := COALESCE(CARDINALITY(leased), 0);
        swept := COALESCE(CARDINALITY(waiting), 0) + ended;
        IF waiting IS NOT NULL THEN
            PERFORM minion_judge(waiting, moment);
        END IF;
        IF leased IS NOT NULL THEN
            INSERT INTO minion_failures (job, message, time, worker, retries)
                SELECT id, '{LEASE_ENDED}', moment, worker, retries FROM minion_jobs
                WHERE id = ANY (leased) ORDER BY id;
            UPDATE minion_jobs AS job SET
                state = CASE WHEN given_up THEN 'failed' ELSE 'inactive' END::minion_state,
                finished = CASE WHEN given_up THEN moment ELSE finished END,
                result = CASE WHEN given_up THEN '"{LEASE_ENDED}"' ELSE result END,
                exit_status = CASE WHEN given_up THEN 1 END,
                retries = retries + CASE WHEN given_up THEN 0 ELSE 1 END,
                fence = retries + CASE WHEN given_up THEN 0 ELSE 1 END,
                retried = CASE WHEN given_up THEN retried ELSE moment END,
                delayed = CASE WHEN given_up THEN delayed ELSE moment END,
                worker = CASE WHEN given_up THEN worker END,
                failures = failures + 1, grabbed_until = NULL, touched = touched + 1,
                hold = CASE WHEN NOT given_up AND expires <= moment THEN 3 ELSE 0 END,
                due = CASE WHEN given_up THEN moment + keep_for * INTERVAL '1 second'
                    WHEN expires > moment THEN expires END
            FROM (
                SELECT job AS id, COUNT(*) >= {LEASE_ENDS_ALLOWED} AS given_up FROM minion_failures
                WHERE job = ANY (leased) AND message = '{LEASE_ENDED}' GROUP BY job
            ) AS log
            WHERE job.id = log.id;
            PERFORM minion_release(leased, moment);
        END IF;
    END;
    $$ LANGUAGE plpgsql SET enable_seqscan = off""",
    # -- Bridges from what Perl writes
    """CREATE FUNCTION minion_foreign_insert() RETURNS TRIGGER AS $$
    BEGIN
        IF NEW.delayed > NOW() THEN
            NEW.hold := 1;
            NEW.due := LEAST(NEW.delayed, NEW.expires);
        ELSE
            NEW.due := NEW.expires;
        END IF;
        INSERT INTO minion_job_edges (child, parent) SELECT DISTINCT NEW.id, UNNEST(NEW.parents);
        RETURN NEW;
    END;
    $$ LANGUAGE plpgsql""",
    """CREATE OR REPLACE FUNCTION minion_jobs_notify_workers() RETURNS TRIGGER AS $$
    BEGIN
        PERFORM minion_wake(ARRAY[NEW.queue], ARRAY[NEW.task]);
        RETURN NULL;
    END;
    $$ LANGUAGE plpgsql""",
    """CREATE FUNCTION minion_take_key(job BIGINT) RETURNS VOID AS $$
    DECLARE
        patience TEXT := CURRENT_SETTING('lock_timeout');
    BEGIN
        -- A transaction that is storing a job with this key would be waited for: not for long.
        PERFORM SET_CONFIG('lock_timeout', '20ms', TRUE);
        UPDATE minion_jobs SET fence = retries, touched = touched + 1 WHERE id = job;
        PERFORM SET_CONFIG('lock_timeout', patience, TRUE);
    EXCEPTION WHEN unique_violation OR lock_not_available THEN
        UPDATE minion_jobs SET fence = retries, uniqkey = NULL, touched = touched + 1 WHERE id = job;
    END;
    $$ LANGUAGE plpgsql""",
    """CREATE FUNCTION minion_foreign_update() RETURNS TRIGGER AS $$
    BEGIN
        IF NEW.state = 'inactive' THEN
            IF NEW.parents IS DISTINCT FROM OLD.parents THEN
                DELETE FROM minion_job_edges WHERE child = NEW.id;
                INSERT INTO minion_job_edges (child, parent) SELECT DISTINCT NEW.id, UNNEST(NEW.parents);
            END IF;
            UPDATE minion_jobs SET
                fence = CASE WHEN uniqkey IS NULL THEN retries ELSE fence END,
                worker = NULL, grabbed_until = NULL, exit_status = NULL, touched = touched + 1,
                hold = CASE WHEN delayed > NOW() THEN 1 ELSE 0 END,
                due = CASE WHEN delayed > NOW() THEN LEAST(delayed, expires) ELSE expires END
            WHERE id = NEW.id;
            IF NEW.uniqkey IS NOT NULL AND NEW.fence <> NEW.retries THEN
                PERFORM minion_take_key(NEW.id);
            END IF;
            IF NEW.delayed <= NOW() THEN
                PERFORM minion_wake(ARRAY[NEW.queue], ARRAY[NEW.task]);
            END IF;
        ELSIF NEW.state = 'active' THEN
            IF NEW.lease IS NOT NULL OR NEW.due IS NOT NULL OR NEW.exit_status IS NOT NULL THEN
                UPDATE minion_jobs SET
                    exit_status = NULL, touched = touched + 1,
                    grabbed_until = NOW() + lease * INTERVAL '1 second',
                    due = NOW() + lease * INTERVAL '1 second'
                WHERE id = NEW.id;
            END IF;
        ELSE
            IF NEW.state = 'failed' THEN
                INSERT INTO minion_failures (job, message, time, worker, retries) VALUES (
                    NEW.id, COALESCE(NEW.result #>> '{}', 'null'), NOW(), NEW.worker, NEW.retries);
            END IF;
            UPDATE minion_jobs SET
                exit_status = CASE WHEN state = 'failed' THEN 1 ELSE 0 END, touched = touched + 1,
                grabbed_until = NULL, failures = failures + CASE WHEN state = 'failed' THEN 1 ELSE 0 END,
                due = NOW() + keep_for * INTERVAL '1 second'
            WHERE id = NEW.id;
        END IF;
        IF NEW.state <> 'active' THEN
            PERFORM minion_release(ARRAY[NEW.id], NOW());
        END IF;
        RETURN NULL;
    END;
    $$ LANGUAGE plpgsql""",
    """CREATE FUNCTION minion_jobs_gone() RETURNS TRIGGER AS $$
    BEGIN
        DELETE FROM minion_job_edges WHERE child IN (SELECT id FROM gone WHERE parents <> '{}');
        DELETE FROM minion_failures WHERE job IN (SELECT id FROM gone WHERE failures > 0);
        PERFORM minion_release((SELECT ARRAY_AGG(id) FROM gone), NOW());
        DELETE FROM minion_job_edges WHERE parent IN (SELECT id FROM gone);
        RETURN NULL;
    END;
    $$ LANGUAGE plpgsql""",
    """CREATE FUNCTION minion_jobs_emptied() RETURNS TRIGGER AS $$
    BEGIN
        TRUNCATE minion_job_edges, minion_failures, minion_timetable;
        RETURN NULL;
    END;
    $$ LANGUAGE plpgsql""",
    "DROP TRIGGER IF EXISTS minion_jobs_notify_workers_trigger ON minion_jobs",
    """CREATE TRIGGER minion_jobs_notify_workers_trigger
        AFTER INSERT ON minion_jobs FOR EACH ROW WHEN (NEW.touched = 0 AND NEW.hold = 0)
        EXECUTE FUNCTION minion_jobs_notify_workers()""",
    """CREATE TRIGGER minion_foreign_insert
        BEFORE INSERT ON minion_jobs FOR EACH ROW WHEN (NEW.touched = 0)
        EXECUTE FUNCTION minion_foreign_insert()""",
    """CREATE TRIGGER minion_foreign_update
        AFTER UPDATE OF state, retries, delayed, expires, parents, lax, queue ON minion_jobs
        FOR EACH ROW WHEN (NEW.touched = OLD.touched) EXECUTE FUNCTION minion_foreign_update()""",
    """CREATE TRIGGER minion_jobs_gone
        AFTER DELETE ON minion_jobs REFERENCING OLD TABLE AS gone FOR EACH STATEMENT
        EXECUTE FUNCTION minion_jobs_gone()""",
    """CREATE TRIGGER minion_jobs_emptied
        AFTER TRUNCATE ON minion_jobs FOR EACH STATEMENT EXECUTE FUNCTION minion_jobs_emptied()""",
)

MIGRATIONS = (
    Migration(1, "Minion's tables, and what we add to them", _MINIONS_OWN + _ADDITIONS + _FUNCTIONS),
)
