"""An app as third parties write it: Authlib does the code flow with PKCE over the hub's HTTPS, paho-mqtt connects with the token.

Reads a plan (JSON) on stdin, writes what happened (JSON) to stdout. The person's part, which a page does in a browser, is
done here with the person's own token.
"""

import json
import ssl
import sys
import time
from urllib.parse import parse_qs, urlsplit

import paho.mqtt.client as mqtt
import requests
from authlib.common.security import generate_token
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata

PATIENCE = 20.0


def consent(plan, query, **answer):
    """What the consent page does: the person answers, and the browser goes where it is told."""
    members = {name: query[name][0] for name in ("client_id", "redirect_uri", "scope", "state", "code_challenge")}
    answered = requests.post(
        plan["base"] + "/api/v1/oauth/consents",
        json={**members, **answer},
        headers={"Authorization": "Bearer " + plan["person"]},
        verify=plan["ca"],
    )
    answered.raise_for_status()
    return answered.json()["redirect"]


def asked(plan, session, metadata, verifier):
    """Sends the browser to the hub; gives what the page there is told."""
    url, state = session.create_authorization_url(metadata["authorization_endpoint"], code_verifier=verifier)
    shown = requests.get(url, allow_redirects=False, verify=plan["ca"])
    page = urlsplit(shown.headers["Location"])
    assert shown.status_code == 303 and page.path == "/" and page.fragment.startswith("/consent?"), shown.headers["Location"]
    return parse_qs(page.fragment.split("?", 1)[1]), state


def heard_of(client, done):
    until = time.monotonic() + PATIENCE
    while not done():
        client.loop(timeout=0.5)
        if time.monotonic() > until:
            raise TimeoutError("nothing from the hub")


def connected(plan, app, token):
    """Over MQTT: the user name is the app, the password its access token."""
    seen = {"codes": [], "subscribed": None, "ended": None}
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="app", protocol=mqtt.MQTTv5, reconnect_on_failure=False)
    client.username_pw_set("app:" + app, token)
    client.tls_set(ca_certs=plan["ca"], tls_version=ssl.PROTOCOL_TLS_CLIENT)
    client.on_connect = lambda _c, _u, _f, code, _p: seen["codes"].append(code.value)
    client.on_subscribe = lambda _c, _u, _m, codes, _p: seen.__setitem__("subscribed", [code.value for code in codes])
    client.on_disconnect = lambda _c, _u, _f, code, _p: seen.__setitem__("ended", code.value)
    client.connect("localhost", plan["mqtts"])
    heard_of(client, lambda: seen["codes"])
    return client, seen


def main():
    plan = json.load(sys.stdin)
    out = {}
    raw = requests.get(plan["base"] + "/.well-known/oauth-authorization-server", verify=plan["ca"]).json()
    metadata = AuthorizationServerMetadata(raw)
    metadata.validate()
    session = OAuth2Session(
        plan["client_id"],
        redirect_uri=plan["redirect_uri"],
        scope="view",
        code_challenge_method="S256",
        token_endpoint_auth_method="none",
        revocation_endpoint_auth_method="none",
        token_endpoint=raw["token_endpoint"],
    )
    session.verify = plan["ca"]
    # A CA of the surroundings would go before the hub's.
    session.trust_env = False

    # The person says no.
    query, _ = asked(plan, session, raw, generate_token(48))
    denied = parse_qs(urlsplit(consent(plan, query, deny=True)).query)
    out["denied"] = denied["error"][0]

    # The person says yes.
    verifier = generate_token(48)
    query, state = asked(plan, session, raw, verifier)
    redirect = consent(plan, query, devices=[{"id": plan["device"], "privilege": "view"}])
    out["iss"] = parse_qs(urlsplit(redirect).query)["iss"][0] == raw["issuer"]
    token = session.fetch_token(raw["token_endpoint"], authorization_response=redirect, code_verifier=verifier, state=state)
    out["scope"] = token["scope"]
    devices = session.get(plan["base"] + "/api/v1/devices").json()["devices"]
    out["devices"] = [device["id"] for device in devices]
    out["change"] = session.patch(plan["base"] + "/api/v1/devices/" + plan["device"], json={"name": "mine"}).status_code

    # The next pair.
    first = token["access_token"]
    token = session.refresh_token(raw["token_endpoint"])
    out["renewed"] = token["access_token"] != first
    out["after_refresh"] = session.get(plan["base"] + "/api/v1/devices").status_code

    # MQTT, until the token is revoked.
    client, seen = connected(plan, token["app_id"], token["access_token"])
    client.subscribe([("things/" + plan["device"] + "/telemetry", 1), ("things/" + plan["other"] + "/telemetry", 1)])
    heard_of(client, lambda: seen["subscribed"])
    revoked = session.revoke_token(raw["revocation_endpoint"], token=token["access_token"])
    out["revoked"] = revoked.status_code
    heard_of(client, lambda: seen["ended"] is not None)
    out["mqtt"] = {"connect": seen["codes"], "subscribed": seen["subscribed"], "ended": seen["ended"]}
    out["after_revocation"] = session.get(plan["base"] + "/api/v1/devices").status_code
    _, refused = connected(plan, token["app_id"], token["access_token"])
    out["mqtt_after"] = refused["codes"]
    json.dump(out, sys.stdout)


if __name__ == "__main__":
    main()
