-- What is held back by hand: `all` with an empty name, `segment` with its name, `tool` with `server/tool`.
CREATE TABLE holds (
    kind    TEXT   NOT NULL,
    name    TEXT   NOT NULL,
    because TEXT   NOT NULL,
    held_at BIGINT NOT NULL,
    PRIMARY KEY (kind, name)
);

-- Tokens that an agent was given at or before this moment are refused.
CREATE TABLE token_floors (
    agent     TEXT   NOT NULL PRIMARY KEY,
    given_at  BIGINT NOT NULL
);

-- Runs of playbooks, each as JSON.
CREATE TABLE playbook_runs (
    id         TEXT   NOT NULL PRIMARY KEY,
    playbook   TEXT   NOT NULL,
    subject    TEXT   NOT NULL,
    over       BIGINT NOT NULL,
    started_at BIGINT NOT NULL,
    body       TEXT   NOT NULL
);
CREATE INDEX playbook_runs_by_state ON playbook_runs (over, id);
CREATE INDEX playbook_runs_by_subject ON playbook_runs (subject, playbook, id);
