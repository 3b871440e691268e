-- What people are asked to approve, and what they allowed. It ends with its task.

CREATE TABLE approvals (
    id         TEXT   NOT NULL PRIMARY KEY,
    task       TEXT   NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    agent      TEXT   NOT NULL,
    status     TEXT   NOT NULL,
    asked_at   BIGINT NOT NULL,
    -- Until when it waits; once approved, until when it holds.
    expires_at BIGINT NOT NULL,
    -- How often it may be used, and was.
    uses       BIGINT NOT NULL,
    used       BIGINT NOT NULL,
    -- What is asked, as JSON.
    request    TEXT   NOT NULL,
    -- Who decided and how, as JSON.
    decided    TEXT
);
CREATE INDEX approvals_by_status ON approvals (status, id);
CREATE INDEX approvals_by_task ON approvals (task, id);
CREATE INDEX approvals_by_agent ON approvals (agent, status);

-- How much of what agents and tasks do needs a person, where that was raised.
CREATE TABLE approval_levels (
    kind    TEXT   NOT NULL,
    subject TEXT   NOT NULL,
    level   TEXT   NOT NULL,
    until   BIGINT,
    because TEXT   NOT NULL,
    PRIMARY KEY (kind, subject)
);
