-- Stolen hubs: which hub follows which, and how far the counters of devices' move orders are.

-- By the stolen hub: in its own database. Its epoch is over; the statement that ended it stands in epoch_statement.
ALTER TABLE hubs ADD COLUMN rehomed_to bytea;

-- By the new hub: in the database of that one.
CREATE TABLE rehomes (
    hub_id bytea PRIMARY KEY,
    old_hub bytea NOT NULL,
    -- The hubs that devices may be leaving, one after the other, 16 bytes each.
    left_hubs bytea NOT NULL,
    -- The new hub's move request, as signed.
    request bytea NOT NULL,
    at bigint NOT NULL,
    -- When the devices of the old hub became the new one's.
    assigned_at bigint
);

-- By device: in the database that its id names.
CREATE TABLE move_orders (
    device_id text COLLATE "C" PRIMARY KEY,
    -- Of the newest order: it only rises.
    counter bigint NOT NULL,
    hub_id bytea NOT NULL,              -- to which it leads
    body bytea NOT NULL,
    at bigint NOT NULL
);
CREATE INDEX claims_by_hub ON claims (hub_id, device_id);
