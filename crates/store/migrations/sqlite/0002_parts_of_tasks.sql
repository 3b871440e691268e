-- A task may be a part of another: its grant is within that one's, and it ends with it.

ALTER TABLE tasks ADD COLUMN parent TEXT REFERENCES tasks (id);
CREATE INDEX tasks_by_parent ON tasks (parent, id);
