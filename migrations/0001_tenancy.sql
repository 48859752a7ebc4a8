-- Tenants, their services and the keys that open them.

CREATE TABLE workspaces (
    id         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name       text NOT NULL UNIQUE CHECK (length(name) BETWEEN 1 AND 255),
    created_at timestamptz NOT NULL DEFAULT now()
);

-- A service's id is unique within its workspace only: two tenants may choose the same one.
CREATE TABLE services (
    workspace_id uuid NOT NULL REFERENCES workspaces ON DELETE CASCADE,
    id           uuid NOT NULL DEFAULT gen_random_uuid(),
    name         text NOT NULL CHECK (length(name) <= 255),
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (workspace_id, id),
    UNIQUE (workspace_id, name)
);

-- Only the SHA-256 of a key is kept: keys are long and random, so no slow hash is needed.
-- A key without a workspace opens all of them.
CREATE TABLE api_keys (
    key_sha256   bytea PRIMARY KEY CHECK (length(key_sha256) = 32),
    workspace_id uuid REFERENCES workspaces ON DELETE CASCADE,
    name         text NOT NULL,
    scopes       text[] NOT NULL CHECK (scopes <@ ARRAY['ingest', 'read', 'admin']),
    created_at   timestamptz NOT NULL DEFAULT now()
);
