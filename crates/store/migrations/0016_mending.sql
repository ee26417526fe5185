-- Looks at the small objects of vaults: when the next is due, and how the last ended.
ALTER TABLE vault_care ADD COLUMN mend_due_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE vault_care ADD COLUMN mending TEXT;
ALTER TABLE vault_care ADD COLUMN mended_at BIGINT;
