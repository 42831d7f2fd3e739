SUMMARY = "The Hearthkey appliance for its developers"
DESCRIPTION = "hearthkey-image with SSH (a key of the builder's, no password), tools, and a root that can be written. Never for a home."

require hearthkey-image.inc

# nooelint: oelint.var.badimagefeature.tools-debug - this is the image for that
IMAGE_FEATURES = "ssh-server-openssh tools-debug"
IMAGE_INSTALL:append = " networkmanager-nmcli"
HEARTHKEY_SSH = "1"

# A file with public keys in OpenSSH's form. Without it nobody can sign in to this image either.
HEARTHKEY_AUTHORIZED_KEYS ?= ""

hearthkey_authorized_keys () {
    if [ -z "${HEARTHKEY_AUTHORIZED_KEYS}" ]; then
        bbwarn "HEARTHKEY_AUTHORIZED_KEYS names no file with public keys: nobody can sign in to this image"
    else
        install -d -m 0700 ${IMAGE_ROOTFS}${ROOT_HOME}/.ssh
        install -m 0600 ${HEARTHKEY_AUTHORIZED_KEYS} ${IMAGE_ROOTFS}${ROOT_HOME}/.ssh/authorized_keys
    fi
}

ROOTFS_POSTPROCESS_COMMAND += "hearthkey_authorized_keys"
