"""What the story has at hand inside the guest: programs, the hub's API, and the code on a label, worked out anew."""

import base64
import hashlib
import hmac
import http.client
import json
import os
import re
import signal
import ssl
import subprocess
import time

PROGRAM = "/rig/hearthkey"
LOGS = "/run/log"
# Emulated in software, on a machine that does other things too: everything takes its time.
PATIENCE = 150.0


class Broken(Exception):
    """The rig or a program in it does not do what it must."""


def say(text):
    """One line of the story, with the seconds since the guest was started."""
    with open("/proc/uptime", encoding="ascii") as file:
        print(f"{float(file.read().split()[0]):7.2f} s  {text}", flush=True)


def until(what, ask, patience=PATIENCE, pause=0.2):
    """What `ask` answers, as soon as that is something."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        answer = ask()
        if answer:
            return answer
        time.sleep(pause)
    raise Broken(f"after {patience:.0f} s still not so: {what}")


def run(*arguments):
    """The output of our program, which must succeed."""
    done = subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, timeout=PATIENCE, check=False)
    if done.returncode != 0:
        raise Broken(f"{' '.join(arguments)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


class Child:
    """A program that runs beside the story; its output lies in the log's directory, after that of its predecessors."""

    def __init__(self, name, *arguments):
        self.name = name
        self.path = f"{LOGS}/{name}"
        with open(self.path, "ab") as log:
            self.begins = log.tell()
            self.process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def log(self):
        """What it has said itself."""
        with open(self.path, "rb") as file:
            file.seek(self.begins)
            return file.read().decode(errors="replace")

    def alive(self):
        return self.process.poll() is None

    def line(self, pattern, patience=PATIENCE):
        """The first line that the pattern is found in."""

        def look():
            for line in self.log().splitlines():
                if re.search(pattern, line):
                    return line
            if not self.alive():
                raise Broken(f"{self.name} ended with {self.process.returncode}:\n{self.log()[-2000:]}")
            return None

        return until(f"{self.name} says {pattern!r}", look, patience)

    def end(self):
        if self.alive():
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
        return self.process.wait()


class Api:
    """The hub's API over HTTPS, under the hub's own certificate authority."""

    def __init__(self, announced):
        self.https = announced["https"]
        self.token = None
        # The one call without TLS: it hands out the authority, which is compared with what the hub announced.
        plain = http.client.HTTPConnection(announced["http"], timeout=PATIENCE)
        plain.request("GET", "/trust/ca.pem")
        pem = plain.getresponse().read().decode()
        plain.close()
        found = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()
        if found != re.sub("[^0-9a-f]", "", announced["ca_fingerprint"].lower()):
            raise Broken(f"the authority has the fingerprint {found}, announced is {announced['ca_fingerprint']}")
        self.tls = ssl.create_default_context(cadata=pem)

    def open(self, method, path, body=None):
        """The answer, unread, and its connection."""
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        if isinstance(body, bytes):
            headers["Content-Type"] = "application/octet-stream"
        elif body is not None:
            headers["Content-Type"] = "application/json"
            body = json.dumps(body)
        connection = http.client.HTTPSConnection(self.https, context=self.tls, timeout=PATIENCE)
        connection.request(method, "/api/v1" + path, body=body, headers=headers)
        return connection, connection.getresponse()

    def ask(self, method, path, body=None):
        """Status and content."""
        connection, response = self.open(method, path, body)
        content = response.read()
        connection.close()
        if content and "json" in response.headers.get("Content-Type", ""):
            return response.status, json.loads(content)
        return response.status, content.decode()

    def call(self, method, path, body=None):
        """The content of an answer that is no refusal."""
        status, content = self.ask(method, path, body)
        if status >= 300:
            raise Broken(f"{method} {path}: {status} {content}")
        return content

    def events(self, path):
        """The data of each Server-Sent Event, until the hub ends them."""
        connection, response = self.open("GET", path)
        if response.status != 200:
            raise Broken(f"GET {path}: {response.status} {response.read().decode()}")
        data = []
        for raw in response:
            line = raw.decode().rstrip("\r\n")
            if line.startswith("data:"):
                data.append(line[5:].strip())
            elif not line and data:
                yield json.loads("\n".join(data))
                data = []
        connection.close()


def claim_code(secret_file):
    """The text of the QR code on the label of a device (docs/protocol/identity.md §4), and the device's id."""
    with open(secret_file, encoding="utf-8") as file:
        secret = json.load(file)
    text = secret["device_key"]
    key = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    extracted = hmac.digest(bytes(32), key, "sha256")
    okm = hmac.digest(extracted, b"hearthkey claim v1\x01", "sha256")[:13]
    bits = int.from_bytes(okm, "big") >> 4
    symbols = [(bits >> (95 - 5 * i)) & 31 for i in range(20)]
    check = 0
    for place, symbol in enumerate(symbols, 1):
        for _ in range(place):
            symbol <<= 1
            if symbol & 32:
                symbol ^= 0b100101
        check ^= symbol
    alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
    code = "".join(alphabet[symbol] for symbol in [*symbols, check])
    return secret["device_id"], f"HK1:{secret['device_id']}:{code}"


def content(path):
    """What is in a file, or nothing."""
    if not os.path.exists(path):
        return ""
    with open(path, encoding="utf-8") as file:
        return file.read()
