SUMMARY = "The home's authority on things"
DESCRIPTION = "An MQTT broker with a gate in front, digital twins, accounts and bindings, a REST API \
with live events and a web page, in one program that works without the internet."
HOMEPAGE = "https://hearthkey.invalid"
SECTION = "net"
LICENSE = "Apache-2.0 | MIT"
LIC_FILES_CHKSUM = "\
    file://LICENSE-APACHE;md5=ff1d47b8bec7fde82047bc1c9c3132b6 \
    file://LICENSE-MIT;md5=273f48f5ce531abd442c97e5aaf10352 \
"

# The sources are files of the tree that the layer stands in (HEARTHKEY_TREE). Cargo wants each target of its manifest to be there, tests and
# benchmarks too. A release's archive carries the built page in web/dist; in a checkout it is made by `npm --prefix web run build`.
# nooelint: oelint.vars.fileextrapaths,oelint.vars.outofcontext - the sources lie outside the layer
FILESEXTRAPATHS:prepend := "${HEARTHKEY_TREE}:"
HEARTHKEY_PAGE = "${HEARTHKEY_TREE}/web/dist"
# What is built does not depend on where the tree lies.
HEARTHKEY_PAGE[vardepvalue] = "web/dist"
require ${BPN}-crates.inc
SRC_URI += "\
    file://Cargo.toml;subdir=${BP} \
    file://Cargo.lock;subdir=${BP} \
    file://build.rs;subdir=${BP} \
    file://src;subdir=${BP} \
    file://benches;subdir=${BP} \
    file://tests/architecture.rs;subdir=${BP} \
    file://tests/it;subdir=${BP} \
    file://web/.npmrc;subdir=${BP} \
    file://web/esbuild.mjs;subdir=${BP} \
    file://web/package-lock.json;subdir=${BP} \
    file://web/package.json;subdir=${BP} \
    file://web/tsconfig.json;subdir=${BP} \
    file://web/src;subdir=${BP} \
    ${@'file://web/dist;subdir=${BP}' if os.path.isfile(d.getVar('HEARTHKEY_PAGE') + '/index.html') else ''} \
    file://README.md;subdir=${BP} \
    file://LICENSE-APACHE;subdir=${BP} \
    file://LICENSE-MIT;subdir=${BP} \
    file://systemd;subdir=${BP} \
    file://hub-image.toml \
"

inherit cargo cargo-update-recipe-crates features_check pkgconfig systemd useradd

REQUIRED_DISTRO_FEATURES = "systemd"

# As `--profile dist` builds it; stripping is the packaging's.
export CARGO_PROFILE_RELEASE_CODEGEN_UNITS = "1"
export CARGO_PROFILE_RELEASE_LTO = "thin"
export CARGO_PROFILE_RELEASE_OPT_LEVEL = "3"

SYSTEMD_SERVICE:${PN} = "hearthkey.service hearthkey-https.socket hearthkey-http.socket hearthkey-mqtts.socket"

# Always the same number: what lies on the data partition stays the hub's through every update.
USERADD_PACKAGES = "${PN}"
GROUPADD_PARAM:${PN} = "--system --gid 731 hearthkey"
USERADD_PARAM:${PN} = "--system --uid 731 --gid hearthkey --home-dir ${localstatedir}/lib/hearthkey --no-create-home --shell ${base_sbindir}/nologin --comment Hearthkey hearthkey"

# Whether the page is there is asked again when it comes or goes.
# nooelint: oelint.task.noanonpython - there is no other way to say it
python () {
    bb.parse.mark_dependency(d, d.getVar('HEARTHKEY_PAGE') + '/index.html')
}

do_compile:prepend() {
    if [ ! -f ${S}/web/dist/index.html ]; then
        bbfatal "${HEARTHKEY_PAGE} holds no built page. Set HEARTHKEY_TREE to a release's unpacked archive, or run in the checkout: npm --prefix web ci && npm --prefix web run build"
    fi
}

do_install() {
    install -D -m 0755 ${B}/target/${CARGO_TARGET_SUBDIR}/hearthkey ${D}${bindir}/hearthkey
    install -D -m 0644 ${S}/systemd/hearthkey.service ${D}${systemd_system_unitdir}/hearthkey.service
    install -m 0644 ${S}/systemd/sockets/hearthkey-https.socket ${D}${systemd_system_unitdir}/
    install -m 0644 ${S}/systemd/sockets/hearthkey-http.socket ${D}${systemd_system_unitdir}/
    install -m 0644 ${S}/systemd/sockets/hearthkey-mqtts.socket ${D}${systemd_system_unitdir}/
    install -D -m 0644 ${S}/systemd/hearthkey.tmpfiles ${D}${nonarch_libdir}/tmpfiles.d/hearthkey.conf
    install -D -m 0644 ${S}/systemd/hearthkey.dbus.conf ${D}${datadir}/dbus-1/system.d/hearthkey.conf
    install -D -m 0644 ${S}/systemd/hearthkey.rules ${D}${datadir}/polkit-1/rules.d/50-hearthkey.rules
    install -D -m 0640 -g hearthkey ${UNPACKDIR}/hub-image.toml ${D}${sysconfdir}/hearthkey/hub.toml
}

FILES:${PN} += "\
    ${datadir}/dbus-1 \
    ${datadir}/polkit-1 \
    ${nonarch_libdir}/tmpfiles.d \
"
CONFFILES:${PN} = "${sysconfdir}/hearthkey/hub.toml"

# BlueZ and NetworkManager are spoken to over D-Bus when they are there; certificates are for the way to a cloud.
RRECOMMENDS:${PN} = "bluez5 ca-certificates"
