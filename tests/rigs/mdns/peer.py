"""A host on the network, by python-zeroconf: does what the lines on its standard input say, and answers each with one.

The first line is {"addresses": [...]}: the interfaces it is on. Then:
  {"do": "await", "type", "name"?, "address"?}  until such a service is there (and has the address): what it says
  {"do": "gone", "type", "name"}                until it has said goodbye
  {"do": "register", "type", "name", "host", "port", "txt", "address"}
  {"do": "unregister"}                          all of them
  {"do": "page", "url", "line"}                 until an HTTPS page of the hub has this line
  {"do": "tls", "at": [host, port], "ca", "names"}  those under which the hub's certificate holds
"""

import json
import socket
import ssl
import sys
import time
import urllib.request

from zeroconf import IPVersion, ServiceBrowser, ServiceInfo, ServiceListener, Zeroconf

PATIENCE = 40.0


class Seen(ServiceListener):
    def __init__(self):
        self.names = {}

    def add_service(self, zc, kind, name):
        self.names[name] = kind

    update_service = add_service

    def remove_service(self, zc, kind, name):
        self.names.pop(name, None)


def until(what):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if (found := what()) is not None:
            return found
        time.sleep(0.1)
    return {"late": True}


class Peer:
    def __init__(self, addresses):
        self.zc = Zeroconf(interfaces=addresses, ip_version=IPVersion.V6Only if any(":" in a for a in addresses) else IPVersion.V4Only)
        self.seen, self.browsers, self.mine = Seen(), {}, []

    def browse(self, kind):
        if kind not in self.browsers:
            self.browsers[kind] = ServiceBrowser(self.zc, kind, self.seen)

    def do_await(self, type, name=None, address=None):
        self.browse(type)

        def look():
            for known, kind in list(self.seen.names.items()):
                if kind != type or (name and known != f"{name}.{type}"):
                    continue
                info = self.zc.get_service_info(type, known, timeout=500)
                if info is None or (address and address not in info.parsed_addresses()):
                    continue
                txt = {k.decode(): (v or b"").decode() for k, v in info.properties.items()}
                return {
                    "name": known.removesuffix("." + type),
                    "host": info.server,
                    "port": info.port,
                    "addresses": sorted(info.parsed_addresses()),
                    "txt": txt,
                }
            return None

        return until(look)

    def do_gone(self, type, name):
        self.browse(type)
        return until(lambda: None if f"{name}.{type}" in self.seen.names else {"gone": True})

    def do_register(self, type, name, host, port, txt, address):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        packed = [socket.inet_pton(family, address)]
        info = ServiceInfo(type, f"{name}.{type}", addresses=packed, port=port, properties=txt, server=host)
        self.zc.register_service(info)
        self.mine.append(info)
        return {}

    def do_unregister(self):
        while self.mine:
            self.zc.unregister_service(self.mine.pop())
        return {}

    def do_page(self, url, line):
        context = ssl._create_unverified_context()

        def look():
            with urllib.request.urlopen(url, context=context, timeout=10) as page:
                return {} if line in page.read().decode().splitlines() else None

        return until(look)

    def do_tls(self, at, ca, names):
        with urllib.request.urlopen(ca, timeout=10) as page:
            pem = ssl.DER_cert_to_PEM_cert(page.read())

        def holds(name):
            context = ssl.create_default_context(cadata=pem)
            try:
                with socket.create_connection(at, timeout=10) as plain, context.wrap_socket(plain, server_hostname=name):
                    return True
            except ssl.SSLCertVerificationError:
                return False

        return {"holds": [name for name in names if holds(name)]}


def main():
    lines = iter(sys.stdin.readline, "")
    peer = Peer(json.loads(next(lines))["addresses"])
    print("{}", flush=True)
    for line in lines:
        asked = json.loads(line)
        print(json.dumps(getattr(peer, "do_" + asked.pop("do"))(**asked)), flush=True)
    peer.zc.close()


main()
