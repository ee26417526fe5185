-- Images. What one was made of may be gone, and so may what was made of it, so neither is a
-- foreign key.

CREATE TABLE images (
    id TEXT NOT NULL PRIMARY KEY,
    account_id TEXT NOT NULL REFERENCES accounts (id),
    project_id TEXT NOT NULL REFERENCES projects (id),
    pool_id TEXT NOT NULL REFERENCES pools (id),
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    labels TEXT NOT NULL,
    state TEXT NOT NULL,
    origin_kind TEXT NOT NULL,
    origin_id TEXT,
    origin_name TEXT,
    consistency TEXT,
    size_bytes BIGINT NOT NULL,
    used_bytes BIGINT NOT NULL,
    layer_id TEXT,
    duration_ms BIGINT,
    protected BIGINT NOT NULL,
    failure TEXT,
    operation_id TEXT,
    created_at BIGINT NOT NULL,
    version BIGINT NOT NULL,
    UNIQUE (project_id, name)
);
CREATE INDEX images_by_age ON images (project_id, created_at, id);
CREATE INDEX images_by_account ON images (account_id);

-- The image that an operation makes, deletes or makes a volume from.
ALTER TABLE operations ADD COLUMN image_id TEXT;
ALTER TABLE operations ADD COLUMN image_name TEXT;
CREATE INDEX operations_by_image ON operations (image_id) WHERE finished_at IS NULL;
