SUMMARY = "How the Hearthkey appliance's system is set up"
DESCRIPTION = "The data partition that grows, what is kept over an update, and settings that spare the memory card."
HOMEPAGE = "https://hearthkey.invalid"
SECTION = "base"
LICENSE = "MIT"
# nooelint: oelint.var.licenseremotefile - these files are of this layer
LIC_FILES_CHKSUM = "file://${COMMON_LICENSE_DIR}/MIT;md5=0835ade698e0bcf8506ecda2f7b4f302"

SRC_URI = "\
    file://console.conf \
    file://grow-data \
    file://hearthkey-grow-data.service \
    file://journald.conf \
    file://kept.conf \
    file://networkmanager.conf \
    file://sysctl.conf \
    file://timesyncd.conf \
    file://tmpfiles.conf \
"

S = "${UNPACKDIR}"

inherit features_check systemd

REQUIRED_DISTRO_FEATURES = "systemd"

SYSTEMD_SERVICE:${PN} = "hearthkey-grow-data.service"

do_configure[noexec] = "1"
do_compile[noexec] = "1"

do_install() {
    # Where the data partition is mounted.
    install -d -m 0755 ${D}/data

    install -D -m 0755 ${S}/grow-data ${D}${libexecdir}/hearthkey/grow-data
    install -D -m 0644 ${S}/hearthkey-grow-data.service ${D}${systemd_system_unitdir}/hearthkey-grow-data.service
    install -D -m 0644 ${S}/console.conf ${D}${systemd_system_unitdir}/hearthkey.service.d/10-console.conf
    for unit in systemd-random-seed systemd-rfkill systemd-timesyncd; do
        install -D -m 0644 ${S}/kept.conf ${D}${systemd_system_unitdir}/$unit.service.d/10-hearthkey.conf
    done
    install -D -m 0644 ${S}/journald.conf ${D}${nonarch_libdir}/systemd/journald.conf.d/20-hearthkey.conf
    install -D -m 0644 ${S}/timesyncd.conf ${D}${nonarch_libdir}/systemd/timesyncd.conf.d/20-hearthkey.conf
    install -D -m 0644 ${S}/tmpfiles.conf ${D}${nonarch_libdir}/tmpfiles.d/hearthkey-system.conf
    install -D -m 0644 ${S}/sysctl.conf ${D}${nonarch_libdir}/sysctl.d/50-hearthkey.conf
    install -D -m 0644 ${S}/networkmanager.conf ${D}${nonarch_libdir}/NetworkManager/conf.d/20-hearthkey.conf
}

FILES:${PN} += "\
    /data \
    ${libexecdir}/hearthkey \
    ${nonarch_libdir}/NetworkManager \
    ${nonarch_libdir}/sysctl.d \
    ${nonarch_libdir}/systemd \
    ${nonarch_libdir}/tmpfiles.d \
    ${systemd_system_unitdir}/*.service.d \
"

RDEPENDS:${PN} = "util-linux-blkid util-linux-blockdev util-linux-partx util-linux-sfdisk"
