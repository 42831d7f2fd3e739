SUMMARY = "What the Hearthkey appliance consists of"
DESCRIPTION = "The hub, and what it finds on its box: network, radio, time, certificates."

inherit features_check packagegroup

REQUIRED_DISTRO_FEATURES = "bluetooth polkit systemd wifi"

RDEPENDS:${PN} = "\
    bluez5 \
    ca-certificates \
    e2fsprogs-e2fsck \
    hearthkey \
    hearthkey-system \
    networkmanager-daemon \
    networkmanager-wifi \
    polkit \
    wireless-regdb-static \
"
