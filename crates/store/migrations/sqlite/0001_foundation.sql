-- Times are nanoseconds since 1970-01-01T00:00:00Z. Names, ids and states are the words of the API.

CREATE TABLE agents (
    name          TEXT   NOT NULL PRIMARY KEY,
    sponsor       TEXT   NOT NULL,
    segment       TEXT,
    lifecycle     TEXT   NOT NULL,
    registered_at BIGINT NOT NULL
);
CREATE INDEX agents_by_age ON agents (registered_at, name);

-- One-time enrolment tokens, by their SHA-256 hash. The token itself is nowhere.
CREATE TABLE enrolments (
    hash       BLOB   NOT NULL PRIMARY KEY,
    agent      TEXT   NOT NULL REFERENCES agents (name),
    expires_at BIGINT NOT NULL,
    used_at    BIGINT
);
CREATE INDEX enrolments_by_agent ON enrolments (agent);

CREATE TABLE instances (
    id          TEXT   NOT NULL PRIMARY KEY,
    agent       TEXT   NOT NULL REFERENCES agents (name),
    public_jwk  TEXT   NOT NULL,
    -- One key, one instance: a copied key is refused, disabled instances' keys included.
    thumbprint  TEXT   NOT NULL UNIQUE,
    enrolled_at BIGINT NOT NULL,
    disabled    BIGINT NOT NULL
);
CREATE INDEX instances_by_agent ON instances (agent);

CREATE TABLE tasks (
    id            TEXT   NOT NULL PRIMARY KEY,
    agent         TEXT   NOT NULL REFERENCES agents (name),
    instance      TEXT,
    template      TEXT   NOT NULL,
    parameters    TEXT   NOT NULL,
    purpose       TEXT   NOT NULL,
    grant_json    TEXT   NOT NULL,
    opened_at     BIGINT NOT NULL,
    expires_at    BIGINT NOT NULL,
    status        TEXT   NOT NULL,
    ended_at      BIGINT,
    ended_because TEXT,
    salt          BLOB   NOT NULL,
    log_index     BIGINT NOT NULL
);
CREATE INDEX tasks_by_agent ON tasks (agent, id);
CREATE INDEX tasks_by_status ON tasks (status, id);

-- What a task had used when the audit log had `log_index` records.
CREATE TABLE usage_snapshots (
    task      TEXT   NOT NULL PRIMARY KEY REFERENCES tasks (id) ON DELETE CASCADE,
    usage     TEXT   NOT NULL,
    log_index BIGINT NOT NULL
);

-- Access tokens revoked before their time, by their SHA-256 hash.
CREATE TABLE revoked_tokens (
    hash       BLOB   NOT NULL PRIMARY KEY,
    expires_at BIGINT NOT NULL
);

CREATE TABLE disabled_servers (
    name TEXT NOT NULL PRIMARY KEY
);

-- Records of restrictions that are durable here but perhaps not yet in the audit log.
CREATE TABLE owed_records (
    id     INTEGER NOT NULL PRIMARY KEY,
    record BLOB    NOT NULL
);
