SUMMARY = "How RAUC updates the Hearthkey appliance"
DESCRIPTION = "The slots, the builder's keyring, the backend for the Raspberry Pi's firmware, and the unit that calls a slot good."
HOMEPAGE = "https://hearthkey.invalid"
SECTION = "base"
LICENSE = "MIT"
# nooelint: oelint.var.licenseremotefile - these files are of this layer
LIC_FILES_CHKSUM = "file://${COMMON_LICENSE_DIR}/MIT;md5=0835ade698e0bcf8506ecda2f7b4f302"

SRC_URI = "\
    file://hearthkey-good \
    file://hearthkey-good.service \
    file://rauc-raspberrypi \
    file://system.conf \
    file://tmpfiles.conf \
"

S = "${UNPACKDIR}"

inherit features_check systemd

REQUIRED_DISTRO_FEATURES = "systemd"
COMPATIBLE_MACHINE = "^(qemuall|rpi)$"
PACKAGE_ARCH = "${MACHINE_ARCH}"

# A file with the certificates (PEM) that bundles have to be signed under.
HEARTHKEY_RAUC_KEYRING ?= "${RAUC_KEYRING_FILE}"
RAUC_KEYRING_FILE ??= ""

SYSTEMD_SERVICE:${PN} = "hearthkey-good.service"

do_configure[noexec] = "1"
do_compile[noexec] = "1"

do_install() {
    if [ ! -s "${HEARTHKEY_RAUC_KEYRING}" ]; then
        bbfatal "RAUC_KEYRING_FILE names no file with certificates: set it in local.conf to an absolute path (SECURITY.md)"
    fi
    install -D -m 0644 ${HEARTHKEY_RAUC_KEYRING} ${D}${sysconfdir}/rauc/keyring.pem
    install -D -m 0644 ${S}/system.conf ${D}${sysconfdir}/rauc/system.conf
    sed -i 's/@MACHINE@/${MACHINE}/' ${D}${sysconfdir}/rauc/system.conf
    install -D -m 0755 ${S}/rauc-raspberrypi ${D}${libexecdir}/hearthkey/rauc-raspberrypi
    install -D -m 0755 ${S}/hearthkey-good ${D}${libexecdir}/hearthkey/good
    install -D -m 0644 ${S}/tmpfiles.conf ${D}${nonarch_libdir}/tmpfiles.d/hearthkey-rauc.conf
    install -D -m 0644 ${S}/hearthkey-good.service ${D}${systemd_system_unitdir}/hearthkey-good.service
}
do_install[file-checksums] += "${@(d.getVar('HEARTHKEY_RAUC_KEYRING') or '/nonexistent') + ':False'}"

FILES:${PN} += "${libexecdir}/hearthkey ${nonarch_libdir}/tmpfiles.d"

# A slot's boot partition comes as an archive into a new FAT.
RDEPENDS:${PN} = "dosfstools hearthkey rauc rauc-service tar"
RPROVIDES:${PN} = "virtual-rauc-conf"
RCONFLICTS:${PN} = "rauc-conf"
