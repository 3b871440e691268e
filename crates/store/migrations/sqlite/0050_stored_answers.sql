-- Answers of models that their provider keeps, by the task that they were given to: it alone may go on
-- with them. `tokens` are those that going on reads again.

CREATE TABLE stored_answers (
    task     TEXT   NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    server   TEXT   NOT NULL,
    id       TEXT   NOT NULL,
    tokens   BIGINT NOT NULL,
    given_at BIGINT NOT NULL,
    PRIMARY KEY (task, server, id)
);
CREATE INDEX stored_answers_by_age ON stored_answers (given_at);
