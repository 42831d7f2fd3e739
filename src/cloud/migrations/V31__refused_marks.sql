-- Marks made here that the hub has not taken: what they name is in force there, and is shown as it is.
ALTER TABLE marks ADD COLUMN made_here boolean NOT NULL DEFAULT false;
CREATE TABLE refused_marks (
    hub_id bytea NOT NULL,
    kind text NOT NULL,
    key text NOT NULL,
    gen bigint NOT NULL,                -- refused up to
    code text NOT NULL,
    by_ text NOT NULL DEFAULT '',       -- who had made the mark here, if anybody
    at bigint NOT NULL,
    PRIMARY KEY (hub_id, kind, key)
);
