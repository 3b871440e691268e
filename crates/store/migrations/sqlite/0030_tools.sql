-- What was approved of the tools of MCP servers, and what was listed otherwise since.
CREATE TABLE tools (
    server        TEXT   NOT NULL,
    tool          TEXT   NOT NULL,
    approved      TEXT,
    approved_hash BLOB,
    approved_by   TEXT,
    approved_at   BIGINT,
    listed        TEXT,
    listed_hash   BLOB,
    listed_at     BIGINT,
    rejected      BIGINT NOT NULL,
    findings      TEXT   NOT NULL,
    PRIMARY KEY (server, tool)
);

-- Servers whose tools have been seen: what they list from then on is new.
CREATE TABLE met_servers (
    server TEXT   NOT NULL PRIMARY KEY,
    met_at BIGINT NOT NULL
);

-- Canary tokens. They are planted where anybody may find them, so they are no secrets.
CREATE TABLE canaries (
    text       TEXT   NOT NULL PRIMARY KEY,
    label      TEXT   NOT NULL,
    planted_at BIGINT NOT NULL
);
