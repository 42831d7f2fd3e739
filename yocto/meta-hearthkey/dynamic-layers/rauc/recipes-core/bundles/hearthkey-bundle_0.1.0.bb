SUMMARY = "An update of the Hearthkey appliance"
DESCRIPTION = "A RAUC bundle for the slot that does not run: system, and on a Raspberry Pi kernel and firmware with it. \
Signed with RAUC_KEY_FILE and RAUC_CERT_FILE, which the builder sets; there are none in this layer."
HOMEPAGE = "https://hearthkey.invalid"
SECTION = "base"
LICENSE = "MIT"
# nooelint: oelint.var.licenseremotefile - nothing of its own is in it
LIC_FILES_CHKSUM = "file://${COMMON_LICENSE_DIR}/MIT;md5=0835ade698e0bcf8506ecda2f7b4f302"

SRC_URI = ""

inherit bundle features_check

REQUIRED_DISTRO_FEATURES = "bluetooth polkit systemd wifi"
EXCLUDE_FROM_WORLD = "1"

COMPATIBLE_MACHINE = "^(qemuall|rpi)$"

RAUC_BUNDLE_COMPATIBLE = "hearthkey-${MACHINE}"
RAUC_BUNDLE_VERSION = "${DISTRO_VERSION}"
RAUC_BUNDLE_FORMAT = "verity"

RAUC_BUNDLE_SLOTS = "rootfs"
RAUC_BUNDLE_SLOTS:rpi = "firmware rootfs"
RAUC_SLOT_rootfs = "hearthkey-image"
RAUC_SLOT_rootfs[fstype] = "ext4"
RAUC_SLOT_firmware = "hearthkey-boot"
RAUC_SLOT_firmware[type] = "file"
RAUC_SLOT_firmware[file] = "hearthkey-boot-${MACHINE}.tar.gz"
RAUC_SLOT_firmware[rename] = "hearthkey-boot.tar.gz"
