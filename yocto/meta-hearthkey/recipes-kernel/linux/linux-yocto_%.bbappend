FILESEXTRAPATHS:prepend:hearthkey := "${THISDIR}/files:"

SRC_URI:append:hearthkey = " file://hearthkey.cfg"
