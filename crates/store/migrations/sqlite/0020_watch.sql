-- What detectors saw, and what became of it. `body` is the whole as JSON; the other columns are what is
-- asked for. Severities are numbers from 0 (info) to 4 (critical), so that they can be compared.

CREATE TABLE findings (
    id       BIGINT NOT NULL PRIMARY KEY,
    at       BIGINT NOT NULL,
    rule     TEXT   NOT NULL,
    severity BIGINT NOT NULL,
    agent    TEXT,
    task     TEXT,
    server   TEXT,
    incident BIGINT,
    body     TEXT   NOT NULL
);
CREATE INDEX findings_by_agent ON findings (agent, id);
CREATE INDEX findings_by_incident ON findings (incident, id);

CREATE TABLE incidents (
    id       BIGINT NOT NULL PRIMARY KEY,
    -- Grows with each change that is worth telling, over all incidents.
    revision BIGINT NOT NULL,
    status   TEXT   NOT NULL,
    severity BIGINT NOT NULL,
    last_at  BIGINT NOT NULL,
    body     TEXT   NOT NULL
);
CREATE INDEX incidents_by_status ON incidents (status, id);
CREATE INDEX incidents_by_revision ON incidents (revision);

CREATE TABLE incident_agents (
    incident BIGINT NOT NULL REFERENCES incidents (id) ON DELETE CASCADE,
    agent    TEXT   NOT NULL,
    PRIMARY KEY (incident, agent)
);
CREATE INDEX incident_agents_by_agent ON incident_agents (agent, incident);

-- What is known of agents' behaviour, in parts.
CREATE TABLE watched_parts (
    name TEXT NOT NULL PRIMARY KEY,
    body TEXT NOT NULL
);

-- Where the follower of the audit log is, in one row: the records before `observed` are in the parts, and
-- the findings about those before `told` are in the tables.
CREATE TABLE watch_position (
    one      BIGINT NOT NULL PRIMARY KEY,
    observed BIGINT NOT NULL,
    told     BIGINT NOT NULL
);
