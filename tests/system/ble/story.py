"""What happens in the guest: a hub on hci0, a device on hci1, and a real bluetoothd between them.

    story.py [--wrong-code | --drop-at=STEP | --improv]

Without an argument: a pairing that succeeds and a device that does what its owner wants, a device of another make that is
told its Wi-Fi, and two pairings that fail half-way and leave both sides as they were; the device whose link broke is then
paired at the next try. With one, only that. Ends with 0 when all is as it must be, with 10 when a pairing failed and left
both sides as they were, and with another status otherwise.
"""

import json
import os
import re
import sys
import time

from hub import PROGRAM, Api, Broken, Child, claim_code, content, run, say, until

FACTORY = "/run/factory"
HUB = "/run/hub"
FLASH = "/run/flash"
IMPROV = "/rig/improv-peer"
SSID, PASSPHRASE = "The den", "correct horse battery"
FAILED_AS_IT_SHOULD = 10


def make_devices(count):
    """A brand, a model and devices; the brand's fingerprint, and each device's secret and voucher."""
    os.mkdir(FACTORY, 0o700)
    run("factory", "brand", "new", "acme", "--dir", FACTORY)
    run("factory", "model", "add", "lamp", "--brand", "acme", "--dir", FACTORY)
    minted = run("factory", "mint", "--brand", "acme", "--model", "lamp", "--count", str(count), "--dir", FACTORY)
    fingerprint = run("factory", "brand", "show", "acme", "--dir", FACTORY).splitlines()[0].split()[-1]
    devices = re.findall(r"secret (\S+)\s+voucher (\S+)", minted)
    say(f"the factory made {len(devices)} lamps")
    return fingerprint, devices


def start_hub():
    """The hub, owned, with a radio that is ready."""
    begun = time.monotonic()
    child = Child("hub", PROGRAM, "hub", "--config", "/rig/hub.toml", "--data-dir", HUB, "--announce-json", "--log", "info,hearthkey=debug")
    announced = json.loads(child.line(r'"setup_code"'))
    api = Api(announced)
    owner = {"code": announced["setup_code"], "username": "olivia", "password": "correct horse battery"}
    api.token = api.call("POST", "/setup", owner)["token"]
    say(f"the hub {announced['hub_id']} is up and owned, after {time.monotonic() - begun:.1f} s")
    radio = until("the radio is ready", lambda: (lambda r: r if r["state"] == "ready" else None)(api.call("GET", "/radio")))
    say(f"its radio is ready: {radio['adapter']}")
    return child, api


def import_devices(api, fingerprint):
    """Trusts the brand, and takes the batch that the factory made for this hub."""
    request = api.call("GET", "/hub/request").strip()
    batch = f"{FACTORY}/for-the-hub.hkb"
    run("factory", "batch", "--brand", "acme", "--all", "--for-hub", request, "--out", batch, "--dir", FACTORY)
    api.call("PUT", "/brands/acme", {"fingerprint": fingerprint})
    with open(batch, "rb") as file:
        taken = api.call("POST", "/batches", file.read())
    say(f"the hub took the batch: {taken['added']} devices")


def start_device(secret, voucher, fault, says="pairing: open"):
    """A device on hci1, with its window open, or as far as it says."""
    arguments = ["device", "--secret", secret, "--voucher", voucher, "--state", FLASH, "--ble", "--adapter", "hci1", "--eager"]
    if fault:
        arguments += ["--ble-fault", fault]
    device = Child("device", PROGRAM, *arguments)
    device.line(says)
    return device


def telling(said):
    """What a flash says, without what says nothing: one that was written and holds nothing is one that was not written."""
    if isinstance(said, dict):
        said = {name: telling(value) for name, value in said.items()}
        return {name: value for name, value in said.items() if value}
    return said


def both_sides(api, device_id):
    """What the device has in its flash, and what the hub has to say about the device and its people."""
    flash = {}
    if text := content(f"{FLASH}/{device_id}.json"):
        flash = telling({name: value for name, value in json.loads(text).items() if name != "v"})
    status, device = api.ask("GET", f"/devices/{device_id}")
    devices = api.call("GET", "/devices")["devices"]
    bindings = api.ask("GET", f"/devices/{device_id}/bindings")
    brands = api.call("GET", "/brands")["brands"]
    return {"flash": flash, "hub": {"device": [status, device], "devices": devices, "bindings": bindings, "brands": brands}}


def follow(api, wish):
    """Asks for a pairing and tells of its steps; the last of them."""
    begun = time.monotonic()
    pairing = api.call("POST", "/pairings", wish)
    step = None
    for pairing in api.events(f"/pairings/{pairing['id']}/events"):
        if pairing["step"] != step:
            step = pairing["step"]
            say(f"  {time.monotonic() - begun:6.2f} s  {step}")
        if problem := pairing["problem"]:
            say(f"            {problem['code']}: {problem['detail']} {problem['next']}")
    if step not in ("done", "failed", "cancelled"):
        raise Broken(f"the events ended with the step {step}")
    return pairing


def pair(api, device, fault=None):
    """One pairing; whether it was done. Both sides must then have it, or both be as they were."""
    secret, voucher = device
    device_id, code = claim_code(secret)
    say(f"{device_id} waits to be paired" + (f", with the fault {fault}" if fault else ""))
    process = start_device(secret, voucher, fault)
    before = both_sides(api, device_id)
    last = follow(api, {"code": code, "name": "Reading lamp", "room": "den"})
    if last["step"] == "done":
        if fault and fault != "drop@stored":
            raise Broken(f"a pairing with the fault {fault} was done")
        return process, device_id
    if last["problem"]["code"] in ("not_found", "radio") or "a hub has connected" not in process.log():
        raise Broken(f"the hub never reached the device: {last['problem']}; the device:\n{process.log()}")
    # What it does now, it does before it is unplugged.
    process.line("the connection is gone|undone|does not know the code")
    process.end()
    if fault == "drop@sign-in":
        # Its power was cut: what it was given is undone when it is switched on and the hub refuses it.
        start_device(secret, voucher, None, says="undone").end()
    after = both_sides(api, device_id)
    if after != before:
        raise Broken(f"{fault}: before {json.dumps(before)}\nafter {json.dumps(after)}")
    say(f"it failed, and both sides are as they were: flash {json.dumps(after['flash'])}, at the hub {after['hub']['device'][0]}")
    return None, device_id


def use(api, process, device_id):
    """The device is its owner's, signed in over TLS, and does what is wanted."""
    device = until("the device is ready and online", lambda: (lambda d: d if d["online"] else None)(api.call("GET", f"/devices/{device_id}")))
    if (device["state"], device["trust"], device["privilege"]) != ("ready", "attested", "administer"):
        raise Broken(f"the device is {device}")
    flash = json.loads(content(f"{FLASH}/{device_id}.json"))
    stored = list(flash["hubs"].values())
    if len(stored) != 1 or not stored[0]["active"] or stored[0].get("pending"):
        raise Broken(f"the flash holds credentials of {len(stored)} hubs: {[sorted(hub) for hub in stored]}")
    say(f"{device_id} is {device['state']}, {device['trust']} and online over TLS; its credential is the one in use")
    api.call("PATCH", f"/devices/{device_id}/twin/desired", {"on": True, "brightness": 40})
    wanted = {"on": True, "brightness": 40}
    until("the lamp is on", lambda: wanted.items() <= api.call("GET", f"/devices/{device_id}/twin")["reported"].items())
    say("it was switched on, and says so")
    process.end()


def improv(api):
    """A device of another make is told its Wi-Fi: first a wrong passphrase, then the right one."""
    peer = Child("improv", IMPROV, "hci1", SSID, PASSPHRASE)
    peer.line("waits to be told")
    found = until("the hub finds it", lambda: look_for_improv(api), pause=1.0)
    say(f"the hub finds {found['name']!r}, which speaks Improv")
    outcomes = []
    for passphrase in ("wrong horse battery", PASSPHRASE):
        wifi = {"use": "given", "ssid": SSID, "passphrase": passphrase}
        outcomes.append(follow(api, {"nearby": found["id"], "wifi": wifi}))
    steps = [outcome["step"] for outcome in outcomes]
    if steps != ["failed", "done"] or outcomes[1]["encrypted"]:
        raise Broken(f"the steps {steps}, encrypted {outcomes[1]['encrypted']}; the peer:\n{peer.log()}")
    peer.line("has been told")
    say(f"a wrong passphrase was told, the right one taken; it goes on at {outcomes[1]['result_url']}")
    if peer.end() != 0:
        raise Broken(f"the peer:\n{peer.log()}")


def look_for_improv(api):
    api.call("POST", "/radio/scan")
    return next((thing for thing in api.call("GET", "/nearby")["things"] if thing["kind"] == "improv"), None)


def story(argument):
    """All of it, or what the argument says; the status."""
    faults = {"--wrong-code": "wrong-code"}
    fault = faults.get(argument) or (argument.replace("--drop-at=", "drop@") if argument.startswith("--drop-at=") else None)
    if argument not in ("", "--improv") and not fault:
        raise Broken(f"{argument} is none of --wrong-code, --drop-at=STEP, --improv")
    fingerprint, devices = make_devices(2)
    child, api = start_hub()
    import_devices(api, fingerprint)
    status = 0
    if not argument:
        process, device_id = pair(api, devices[0])
        if not process:
            raise Broken("the pairing failed")
        use(api, process, device_id)
    if argument in ("", "--improv"):
        improv(api)
    for each in [fault] if fault else [] if argument else ["wrong-code", "drop@credential"]:
        process, device_id = pair(api, devices[1], each)
        if process:
            use(api, process, device_id)
            continue
        if fault:
            status = FAILED_AS_IT_SHOULD
        # It is switched on again, and this time nothing is wrong with it.
        if each == "drop@credential":
            process, device_id = pair(api, devices[1])
            if not process:
                raise Broken("the device whose link broke was not paired at the next try")
            use(api, process, device_id)
    if child.end() != 0:
        raise Broken(f"the hub ended with {child.process.returncode}")
    return status


def main():
    try:
        return story(sys.argv[1] if len(sys.argv) > 1 else "")
    except Broken as broken:
        say(f"FAILED: {broken}")
    for name in ("hub", "device", "improv", "bluetoothd"):
        lines = [line for line in content(f"/run/log/{name}").splitlines() if "shared/mgmt.c" not in line][-250:]
        print(f"---- the end of the log of {name}", *lines, sep="\n", flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main())
