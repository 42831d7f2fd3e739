"""HTTP Message Signatures (RFC 9421) by another implementation, both ways: it verifies what the hub and its cloud have
signed, and it signs the same messages itself, Content-Digest included. One JSON plan on stdin, one JSON answer on stdout.

What it does not choose: the label, the covered components, and the order of the parameters, which the protocol fixes."""

import base64
import datetime
import json
import sys

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from http_message_signatures import HTTPMessageSigner, HTTPMessageVerifier, MappingKeyResolver
from http_message_signatures.algorithms import ED25519
from http_message_signatures.exceptions import HTTPMessageSignaturesException

ORDER = ["created", "nonce", "keyid", "alg", "tag"]
REQUEST = ("@method", "@target-uri", "content-digest", "hearthkey-epoch")
REPLY = ("@status", "content-digest")
ASKED = '"signature";req;key="hub"'


class Request:
    def __init__(self, plan):
        self.method, self.url, self.headers = plan["method"], plan["url"], dict(plan["headers"])


class Reply:
    def __init__(self, plan):
        self.status_code, self.headers = plan["status"], dict(plan["headers"])
        self.request = Request(plan["request"])


class InOrder(HTTPMessageSigner):
    def _build_signature_base(self, message, *, signature_params, **rest):
        ordered = {name: signature_params[name] for name in ORDER if name in signature_params}
        return super()._build_signature_base(message, signature_params=ordered, **rest)


def components(plan):
    if "status" not in plan:
        return REQUEST
    return REPLY + ((ASKED,) if "signature" in plan["request"]["headers"] else ())


def verified(plan):
    """What the signature says, or why it does not hold."""
    message = Reply(plan) if "status" in plan else Request(plan)
    key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(plan["public"]))
    verifier = HTTPMessageVerifier(
        signature_algorithm=ED25519, key_resolver=MappingKeyResolver(public_keys={plan["keyid"]: key}, private_keys={})
    )
    try:
        (result,) = verifier.verify(
            message,
            max_age=None,
            expect_tag=plan["tag"],
            expect_label=plan["label"],
            require_components=components(plan),
            body=base64.b64decode(plan["body"]),
        )
    except HTTPMessageSignaturesException as error:
        return {"error": str(error)}
    return {"created": result.parameters["created"], "nonce": result.nonce, "covered": len(result.covered_components)}


def signed(plan):
    """The same message, signed here; of the given headers those that are no signature's."""
    bare = {name: value for name, value in plan["headers"].items() if not name.startswith(("signature", "content-digest"))}
    message = Reply(plan | {"headers": bare}) if "status" in plan else Request(plan | {"headers": bare})
    key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(plan["seed"]))
    signer = InOrder(
        signature_algorithm=ED25519, key_resolver=MappingKeyResolver(public_keys={}, private_keys={plan["keyid"]: key})
    )
    signer.sign(
        message,
        key_id=plan["keyid"],
        created=datetime.datetime.fromtimestamp(plan["created"], datetime.timezone.utc),
        nonce=plan.get("nonce"),
        label=plan["label"],
        tag=plan["tag"],
        covered_component_ids=components(plan),
        body=base64.b64decode(plan["body"]),
    )
    return {name.lower(): value for name, value in message.headers.items()}


def main():
    plan = json.load(sys.stdin)
    answer = {"verified": [verified(message) for message in plan["verify"]], "signed": [signed(message) for message in plan["sign"]]}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
