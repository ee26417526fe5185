-- Copies of the backups of one target in another.
ALTER TABLE targets ADD COLUMN role TEXT NOT NULL DEFAULT 'backups';
ALTER TABLE targets ADD COLUMN copy_to TEXT REFERENCES targets (id);
ALTER TABLE targets ADD COLUMN copy_every_s BIGINT;

-- A vault and its copies have one id, in two targets, and are cared for alike.
CREATE TABLE vault_care_by_target (
    vault_id TEXT NOT NULL REFERENCES vaults (id),
    target_id TEXT NOT NULL REFERENCES targets (id),
    -- The task that cares for it now, and how far that is.
    task_id TEXT,
    progress TEXT,
    collect_due_at BIGINT NOT NULL,
    verify_due_at BIGINT NOT NULL,
    -- So many bytes may go in the next collection, because an administrator said so.
    confirmed_bytes BIGINT NOT NULL,
    freed_bytes BIGINT NOT NULL,
    -- How the last of each ended.
    collection TEXT,
    collected_at BIGINT,
    verification TEXT,
    verified_at BIGINT,
    damage TEXT NOT NULL,
    failure TEXT,
    -- Of copies only: when what is new is copied next, and how that went last.
    copy_due_at BIGINT,
    copy_pass TEXT,
    copy_passed_at BIGINT,
    copy_failure TEXT,
    PRIMARY KEY (vault_id, target_id)
);
INSERT INTO vault_care_by_target (vault_id, target_id, task_id, progress, collect_due_at,
    verify_due_at, confirmed_bytes, freed_bytes, collection, collected_at, verification,
    verified_at, damage, failure)
SELECT c.vault_id, v.target_id, c.task_id, c.progress, c.collect_due_at, c.verify_due_at,
    c.confirmed_bytes, c.freed_bytes, c.collection, c.collected_at, c.verification, c.verified_at,
    c.damage, c.failure
FROM vault_care c JOIN vaults v ON v.id = c.vault_id;
DROP TABLE vault_care;
ALTER TABLE vault_care_by_target RENAME TO vault_care;
CREATE UNIQUE INDEX vault_care_by_task ON vault_care (task_id) WHERE task_id IS NOT NULL;

-- The copies that there are. One outlives the row of its backup: it is deleted later.
CREATE TABLE backup_copies (
    backup_id TEXT NOT NULL,
    target_id TEXT NOT NULL REFERENCES targets (id),
    account_id TEXT NOT NULL REFERENCES accounts (id),
    volume_id TEXT NOT NULL,
    copied_at BIGINT NOT NULL,
    -- When the schedule last looked at it, and whether it is known to be damaged.
    checked_at BIGINT NOT NULL,
    degraded BIGINT NOT NULL,
    -- When its backup was found to be deleted.
    deleted_since BIGINT,
    PRIMARY KEY (backup_id, target_id)
);
CREATE INDEX backup_copies_by_vault ON backup_copies (account_id, target_id, checked_at);
