"""Tries cells of the matrix with paho-mqtt. Reads a plan (JSON) on stdin, writes what happened (JSON) to stdout.

One thread per subject. For every cell and each of 3.1.1 and 5.0 with QoS 0, 1 and 2 the outcome is one word:
ok, refused (a reason code in an acknowledgement), closed (the connection ended), or for a subscription the rooms heard.
What arrives at other clients is counted by who started this.
"""

import json
import socket
import sys
import threading
import time

import paho.mqtt.client as mqtt

PATIENCE = 20.0
VERSIONS = {"v4": mqtt.MQTTv311, "v5": mqtt.MQTTv5}


class Ended(Exception):
    """The connection ended; carries the reason code, if there was one."""


class Session:
    """One client, driven by hand: nothing happens between two calls."""

    def __init__(self, plan, subject, version, will=None, suffix=""):
        self.version = version
        self.client_id = subject["client_id"] + suffix
        kinds = {"clean_session": True} if version == "v4" else {}
        self.client = c = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2, client_id=self.client_id, protocol=VERSIONS[version], reconnect_on_failure=False, **kinds
        )
        c.username_pw_set(subject["username"], next(subject["passwords"]))
        if will:
            c.will_set(will["topic"], will["payload"], qos=will["qos"], retain=False)
        self.connected = None
        self.ended = None
        self.published = {}
        self.subscribed = {}
        self.unsubscribed = set()
        self.messages = []
        c.on_connect = lambda _c, _u, _f, code, _p: setattr(self, "connected", code.value)
        c.on_disconnect = lambda _c, _u, _f, code, _p: setattr(self, "ended", code.value if code is not None else 0)
        c.on_publish = lambda _c, _u, mid, code, _p: self.published.__setitem__(mid, code.value if code is not None else 0)
        c.on_subscribe = lambda _c, _u, mid, codes, _p: self.subscribed.__setitem__(mid, [code.value for code in codes])
        c.on_unsubscribe = lambda _c, _u, mid, _codes, _p: self.unsubscribed.add(mid)
        c.on_message = lambda _c, _u, message: self.messages.append(message)
        try:
            c.connect(plan["host"], plan["port"], keepalive=60)
            self.wait(lambda: self.connected is not None)
        except Exception:
            self.close()
            raise
        if self.connected != 0:
            raise RuntimeError(f"{subject['name']} was not let in: {self.connected}")

    def wait(self, done):
        until = time.monotonic() + PATIENCE
        while not done():
            code = self.client.loop(timeout=0.5)
            if done():
                return
            if self.ended is not None or code != mqtt.MQTT_ERR_SUCCESS:
                raise Ended(self.ended)
            if time.monotonic() > until:
                raise TimeoutError("no answer from the hub")

    def fence(self):
        """Two exchanges: what the hub had done and queued before the first is here after the second."""
        for _ in range(2):
            _, mid = self.client.unsubscribe("fence")
            self.wait(lambda mid=mid: mid in self.unsubscribed)

    def publish(self, topic, payload, qos, retain):
        info = self.client.publish(topic, payload.encode(), qos=qos, retain=retain)
        if qos == 0:
            self.fence()
            return "ok"
        return self.acknowledged(info)

    def acknowledged(self, info):
        self.wait(lambda: info.mid in self.published)
        return "ok" if self.published[info.mid] < 0x80 else f"refused {self.published[info.mid]:#04x}"

    def cut(self):
        """Ends without a word, as a power cut does."""
        sock = self.client.socket()
        sock.shutdown(socket.SHUT_RDWR)
        sock.close()
        self.close()

    def goodbye(self):
        if self.ended is None:
            self.client.disconnect()
        self.close()

    def close(self):
        """Lets go of the sockets now: of clients that wait to be collected there would soon be more than select() can take."""
        self.client = None


def ended_word(ended):
    code = ended.args[0]
    return "closed" if not code or code < 0x80 else f"closed {code:#04x}"


class Prober:
    """The devices whose telemetry a subscriber may hear. One probe at a time."""

    def __init__(self, plan):
        self.lock = threading.Lock()
        self.sessions = [(p["room"], p["topic"], Session(plan, p, "v5")) for p in plan["probers"]]

    def probe(self, marker):
        with self.lock:
            sent = [(session, session.client.publish(topic, marker.encode(), qos=1)) for _, topic, session in self.sessions]
            if any(session.acknowledged(info) != "ok" for session, info in sent):
                raise RuntimeError("a probe was refused")

    def rooms(self, topics):
        return "+".join(room for room, topic, _ in self.sessions if topic in topics)


def subscribe(session, prober, cell, qos, marker):
    _, mid = session.client.subscribe(cell["topic"].replace("{cell}", marker), qos=qos)
    session.wait(lambda: mid in session.subscribed)
    code = session.subscribed[mid][0]
    if code >= 0x80:
        return f"refused {code:#04x}"
    if code != qos:
        return f"granted with QoS {code}"
    prober.probe(marker)
    session.fence()
    heard = [m for m in session.messages if m.payload.decode("utf-8", "replace") == marker]
    if any(m.qos != min(qos, 1) for m in heard):
        return "heard with another QoS"
    topics = [m.topic for m in heard]
    if len(set(topics)) != len(topics):
        return "heard twice"
    return prober.rooms(set(topics)) or "granted"


def try_cell(plan, prober, subject, live, cell, version, qos):
    marker = f"{cell['id']}-{version}q{qos}"
    verb = cell["verb"]
    session = before = live.get(version)
    try:
        if verb == "will":
            will = {"topic": cell["topic"], "payload": cell["payload"].replace("MARKER", marker), "qos": qos}
            session = Session(plan, subject, version, will)
            session.cut()
            # The same client id again: it is let in once the first has ended, will and all.
            live[version] = Session(plan, subject, version)
            if before:
                before.close()
            return "ok"
        if session is None or verb == "subscribe":
            if session:
                session.goodbye()
            session = live[version] = Session(plan, subject, version)
        if verb == "subscribe":
            return subscribe(session, prober, cell, qos, marker)
        return session.publish(cell["topic"], cell["payload"].replace("MARKER", marker), qos, verb == "retain")
    except Ended as ended:
        if gone := live.pop(version, None):
            gone.close()
        return ended_word(ended)


def run(plan, prober, subject, results):
    for version in VERSIONS:
        live = {}
        for cell in subject["cells"]:
            for qos in (0, 1, 2):
                word = try_cell(plan, prober, subject, live, cell, version, qos)
                results[f"{cell['id']}-{version}q{qos}"] = word
        for session in live.values():
            session.goodbye()


def main():
    plan = json.load(sys.stdin)
    for who in plan["subjects"] + plan["probers"]:
        who["passwords"] = iter(who["passwords"]) if len(who["passwords"]) > 1 else iter(lambda p=who["passwords"][0]: p, None)
    prober = Prober(plan)
    results, faults = {}, []

    def guarded(subject):
        try:
            run(plan, prober, subject, results)
        except Exception as fault:  # noqa: BLE001 - told to who started this
            faults.append(f"{subject['name']}: {fault!r}")

    threads = [threading.Thread(target=guarded, args=(s,)) for s in plan["subjects"]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    json.dump({"results": results, "faults": faults}, sys.stdout)


if __name__ == "__main__":
    main()
