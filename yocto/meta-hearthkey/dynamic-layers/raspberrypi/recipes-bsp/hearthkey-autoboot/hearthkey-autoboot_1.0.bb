SUMMARY = "Which slot the Raspberry Pi's firmware starts"
DESCRIPTION = "autoboot.txt of the card's first partition: slot A, and slot B for one try."
HOMEPAGE = "https://hearthkey.invalid"
SECTION = "bsp"
LICENSE = "MIT"
# nooelint: oelint.var.licenseremotefile - the file is of this layer
LIC_FILES_CHKSUM = "file://${COMMON_LICENSE_DIR}/MIT;md5=0835ade698e0bcf8506ecda2f7b4f302"

SRC_URI = "file://autoboot.txt"

S = "${UNPACKDIR}"

COMPATIBLE_MACHINE = "^rpi$"

do_configure[noexec] = "1"
do_compile[noexec] = "1"

do_install() {
    install -D -m 0644 ${S}/autoboot.txt ${D}/autoboot/autoboot.txt
}

FILES:${PN} += "/autoboot"
