-- Operations, the steps of their sagas, and the tasks that nodes do for them.

CREATE TABLE operations (
    id               TEXT PRIMARY KEY,
    account_id       TEXT NOT NULL,
    project_id       TEXT NOT NULL,
    user_id          TEXT NOT NULL,
    kind             TEXT NOT NULL,
    state            TEXT NOT NULL,
    volume_id        TEXT,
    volume_name      TEXT,
    snapshot_id      TEXT,
    backup_id        TEXT,
    -- What it only reads: these items cannot be deleted while it runs.
    reads_snapshot   TEXT,
    reads_backup     TEXT,
    phase            TEXT NOT NULL,
    bytes_done       BIGINT NOT NULL,
    bytes_total      BIGINT,
    rate             BIGINT,
    fence            BIGINT NOT NULL,
    failure          TEXT,
    created_at       BIGINT NOT NULL,
    started_at       BIGINT,
    progressed_at    BIGINT NOT NULL,
    finished_at      BIGINT,
    version          BIGINT NOT NULL,
    -- The order, written once, and the run.
    order_json       TEXT NOT NULL,
    direction        TEXT NOT NULL,
    next_step        BIGINT NOT NULL,
    setback          TEXT,
    abandoned        BIGINT NOT NULL,
    -- When the engine must look at it next; null once it is over.
    due_at           BIGINT,
    task_id          TEXT
);

CREATE INDEX operations_by_account ON operations (account_id, created_at, id);
CREATE INDEX operations_by_age ON operations (created_at, id);
CREATE INDEX operations_by_volume ON operations (volume_id, created_at, id);
-- Holds all that counting the operations in flight needs.
CREATE INDEX operations_live ON operations (account_id, created_at, id, kind, finished_at)
    WHERE finished_at IS NULL;
CREATE INDEX operations_live_by_age ON operations (created_at, id) WHERE finished_at IS NULL;
CREATE INDEX operations_due ON operations (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX operations_by_snapshot ON operations (snapshot_id) WHERE finished_at IS NULL;
CREATE INDEX operations_by_backup ON operations (backup_id) WHERE finished_at IS NULL;
CREATE INDEX operations_reading_snapshot ON operations (reads_snapshot) WHERE finished_at IS NULL;
CREATE INDEX operations_reading_backup ON operations (reads_backup) WHERE finished_at IS NULL;

-- Whatever the code does: a volume has at most one operation that locks it under way.
CREATE UNIQUE INDEX operations_one_per_volume ON operations (volume_id)
    WHERE finished_at IS NULL
    AND kind NOT IN ('snapshot_delete', 'backup_delete', 'backup_verify');

CREATE TABLE operation_steps (
    operation_id     TEXT NOT NULL,
    step             BIGINT NOT NULL,
    name             TEXT NOT NULL,
    state            TEXT NOT NULL,
    attempt          BIGINT NOT NULL,
    outcome          TEXT,
    PRIMARY KEY (operation_id, step)
);

CREATE TABLE tasks (
    id               TEXT PRIMARY KEY,
    operation_id     TEXT,
    role             TEXT NOT NULL,
    step             BIGINT NOT NULL,
    pool_id          TEXT NOT NULL,
    state            TEXT NOT NULL,
    fence            BIGINT NOT NULL,
    attempt          BIGINT NOT NULL,
    due_at           BIGINT NOT NULL,
    node_id          TEXT,
    lease_until      BIGINT,
    cancel           BIGINT NOT NULL,
    spec             TEXT NOT NULL,
    outcome          TEXT,
    failure          TEXT
);

-- Whatever the code does: an operation has one task under way, a pool one upkeep.
CREATE UNIQUE INDEX tasks_one_per_operation ON tasks (operation_id) WHERE role IN ('do', 'undo');
CREATE UNIQUE INDEX tasks_one_upkeep ON tasks (pool_id) WHERE role = 'upkeep';
CREATE INDEX tasks_by_pool ON tasks (pool_id, state, due_at);
CREATE INDEX tasks_by_node ON tasks (node_id) WHERE node_id IS NOT NULL;
CREATE INDEX tasks_of_operation ON tasks (operation_id);
