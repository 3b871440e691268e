-- Signals to and from other security systems. Bodies are JSON.

-- The stream of each receiver.
CREATE TABLE signal_streams (
    receiver TEXT NOT NULL PRIMARY KEY,
    body     TEXT NOT NULL
);

-- Events that a receiver has not taken yet, in their order. `claims` is what will be signed.
CREATE TABLE signals_waiting (
    number   BIGINT NOT NULL PRIMARY KEY,
    receiver TEXT   NOT NULL,
    jti      TEXT   NOT NULL,
    claims   TEXT   NOT NULL
);
CREATE UNIQUE INDEX signals_waiting_by_receiver ON signals_waiting (receiver, jti);

-- Tokens that were taken from others, so that none counts twice.
CREATE TABLE signals_taken (
    transmitter TEXT   NOT NULL,
    jti         TEXT   NOT NULL,
    at          BIGINT NOT NULL,
    PRIMARY KEY (transmitter, jti)
);
CREATE INDEX signals_taken_by_time ON signals_taken (at);

-- How far the log was told, and what was told last of whom.
CREATE TABLE signals_told (
    one      BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
    position BIGINT NOT NULL,
    levels   TEXT   NOT NULL
);
