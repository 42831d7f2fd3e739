SUMMARY = "A slot's boot partition as an archive, for updates"
DESCRIPTION = "Firmware, kernel, device trees and command lines, as wic puts them into the image."
HOMEPAGE = "https://hearthkey.invalid"
SECTION = "bsp"
LICENSE = "MIT"
# nooelint: oelint.var.licenseremotefile - nothing of its own is in it
LIC_FILES_CHKSUM = "file://${COMMON_LICENSE_DIR}/MIT;md5=0835ade698e0bcf8506ecda2f7b4f302"

SRC_URI = ""

S = "${UNPACKDIR}"

inherit deploy nopackages

COMPATIBLE_MACHINE = "^rpi$"
PACKAGE_ARCH = "${MACHINE_ARCH}"
INHIBIT_DEFAULT_DEPS = "1"

do_configure[noexec] = "1"
do_compile[noexec] = "1"
do_install[noexec] = "1"

python do_deploy() {
    import shutil
    import subprocess
    from oe.bootfiles import get_boot_files

    source = d.getVar('DEPLOY_DIR_IMAGE')
    tree = d.expand('${WORKDIR}/boot')
    bb.utils.remove(tree, recurse=True)
    for name, target in get_boot_files(source, d.getVar('IMAGE_BOOT_FILES')):
        target = os.path.join(tree, target)
        bb.utils.mkdirhier(os.path.dirname(target))
        shutil.copyfile(os.path.join(source, name), target)
    archive = d.expand('${DEPLOYDIR}/hearthkey-boot-${MACHINE}.tar.gz')
    subprocess.check_call(['tar', '--create', '--gzip', '--file', archive, '--sort=name', '--owner=0', '--group=0', '--numeric-owner',
                           '--mtime=@' + (d.getVar('SOURCE_DATE_EPOCH') or '0'), '--directory', tree, '.'])
}
addtask deploy after do_install before do_build
do_deploy[depends] += "virtual/kernel:do_deploy rpi-bootfiles:do_deploy"
do_deploy[doc] = "Packs what wic would put into a boot partition"
do_deploy[vardeps] += "IMAGE_BOOT_FILES"
