-- Devices that a hub has paired and that were found to lack their key: by hub, the last tag of each.
CREATE TABLE forged (
    hub_id bytea NOT NULL,
    device_id text COLLATE "C" NOT NULL,
    tag bytea NOT NULL,
    at bigint NOT NULL,
    PRIMARY KEY (hub_id, device_id)
);
