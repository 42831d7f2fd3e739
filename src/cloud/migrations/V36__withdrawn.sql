-- A release that its maker has withdrawn: its number stays taken, its file is gone, and hubs offer it to nobody.
ALTER TABLE releases ADD COLUMN withdrawn boolean NOT NULL DEFAULT false;
