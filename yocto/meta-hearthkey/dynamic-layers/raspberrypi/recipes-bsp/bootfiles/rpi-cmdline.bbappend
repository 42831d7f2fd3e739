# One command line for each slot; config.txt chooses by the partition that was started (RPI_EXTRA_CONFIG in the distribution).
HEARTHKEY_ROOT_A:hearthkey = "root=/dev/mmcblk0p5 rauc.slot=A"
HEARTHKEY_ROOT_B:hearthkey = "root=/dev/mmcblk0p6 rauc.slot=B"

CMDLINE_ROOTFS:hearthkey = "${HEARTHKEY_ROOT_A} rootfstype=ext4 rootwait ro"
# What is written to the console is on the screen, if there is one.
CMDLINE:append:hearthkey = " console=tty1 quiet"

do_compile:append:hearthkey() {
    echo "${@' '.join(d.getVar('CMDLINE').split())}" > ${WORKDIR}/cmdline-a.txt
    echo "${@' '.join(d.getVar('CMDLINE').replace(d.getVar('HEARTHKEY_ROOT_A'), d.getVar('HEARTHKEY_ROOT_B')).split())}" > ${WORKDIR}/cmdline-b.txt
}

do_deploy:append:hearthkey() {
    install -m 0644 ${WORKDIR}/cmdline-a.txt ${WORKDIR}/cmdline-b.txt ${DEPLOYDIR}/${BOOTFILES_DIR_NAME}/
}
