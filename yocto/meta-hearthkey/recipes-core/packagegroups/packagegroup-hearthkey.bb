SUMMARY = "What the Hearthkey appliance consists of"
DESCRIPTION = "The hub, and what it finds on its box: network, radio, time, certificates."

inherit packagegroup

RDEPENDS:${PN} = "\
    bluez5 \
    ca-certificates \
    hearthkey \
    hearthkey-system \
    networkmanager-daemon \
    networkmanager-wifi \
    polkit \
    wireless-regdb-static \
"
