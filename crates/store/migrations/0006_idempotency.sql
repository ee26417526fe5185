-- A key stands for whatever its request led to: an operation, a token, an upload.

ALTER TABLE idempotency RENAME COLUMN operation_id TO resource_id;
