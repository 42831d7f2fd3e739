SUMMARY = "The Hearthkey appliance"
DESCRIPTION = "What a family plugs in: a read-only system in two slots and a data partition that grows. \
Nobody can sign in to it; there is no password, no SSH and no debugging."

require hearthkey-image.inc

# With `=`: what EXTRA_IMAGE_FEATURES of a local.conf brings (empty passwords, root's login) never comes in here.
IMAGE_FEATURES = "read-only-rootfs"
HEARTHKEY_SSH = "0"
