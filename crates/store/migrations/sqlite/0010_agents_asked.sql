-- What other agents gave out to whom: an id is of use only to the instance and task that it was given to.

CREATE TABLE given_ids (
    task     TEXT   NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    instance TEXT   NOT NULL,
    server   TEXT   NOT NULL,
    kind     TEXT   NOT NULL,
    id       TEXT   NOT NULL,
    skill    TEXT   NOT NULL,
    sub_task TEXT,
    given_at BIGINT NOT NULL,
    PRIMARY KEY (task, instance, server, kind, id)
);

-- Webhooks that agents registered with other agents, by the hash of the address that those were given.
CREATE TABLE webhooks (
    address    BLOB   NOT NULL PRIMARY KEY,
    token      BLOB   NOT NULL,
    task       TEXT   NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    instance   TEXT   NOT NULL,
    proof      TEXT   NOT NULL,
    server     TEXT   NOT NULL,
    asked_task TEXT,
    skill      TEXT   NOT NULL,
    sub_task   TEXT,
    -- What the agent wrote, with the secrets that its webhook expects.
    hook       TEXT   NOT NULL
);
CREATE INDEX webhooks_by_task ON webhooks (task);
