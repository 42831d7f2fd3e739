FILESEXTRAPATHS:prepend := "${THISDIR}/files:"

SRC_URI:append:hearthkey = " file://hearthkey.cfg"
