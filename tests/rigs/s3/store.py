"""An S3 store of other people (moto), with a check of signed addresses before it that it does not make itself (AWS Signature Version 4, query
form). Prints its URL as JSON; ends with its standard input."""

import hashlib
import hmac
import json
import sys
import threading
from urllib.parse import parse_qsl, quote

import boto3
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

KEY, SECRET, BUCKET, REGION = "home-key", "home-secret", "home", "eu-1"


def hashed(key, text):
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def is_signed(environ):
    query = dict(parse_qsl(environ["QUERY_STRING"], keep_blank_values=True))
    given = query.pop("X-Amz-Signature", "")
    scope = query.get("X-Amz-Credential", "").split("/")
    if scope[0] != KEY or len(scope) != 5:
        return False
    canonical = "&".join(f"{quote(k, safe='-_.~')}={quote(v, safe='-_.~')}" for k, v in sorted(query.items()))
    names = query["X-Amz-SignedHeaders"]
    headers = "".join(f"{name}:{environ['HTTP_' + name.upper().replace('-', '_')]}\n" for name in names.split(";"))
    path = quote(environ["PATH_INFO"], safe="/-_.~")
    request = "\n".join([environ["REQUEST_METHOD"], path, canonical, headers, names, "UNSIGNED-PAYLOAD"])
    text = "\n".join(["AWS4-HMAC-SHA256", query["X-Amz-Date"], "/".join(scope[1:]), hashlib.sha256(request.encode()).hexdigest()])
    key = ("AWS4" + SECRET).encode()
    for part in scope[1:]:
        key = hashed(key, part)
    return hmac.compare_digest(hashed(key, text).hex(), given)


class Checked:
    def __init__(self, store):
        self.store = store

    def __call__(self, environ, start_response):
        if "Authorization" not in environ and "HTTP_AUTHORIZATION" not in environ and not is_signed(environ):
            start_response("403 Forbidden", [("content-type", "application/xml")])
            return [b"<Error><Code>SignatureDoesNotMatch</Code></Error>"]
        return self.store(environ, start_response)


def main():
    server = make_server("127.0.0.1", 0, Checked(DomainDispatcherApplication(create_backend_app)), threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.port}"
    client = boto3.client("s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id=KEY, aws_secret_access_key=SECRET)
    client.create_bucket(Bucket=BUCKET)
    print(json.dumps({"url": url, "bucket": BUCKET, "region": REGION, "key": KEY, "secret": SECRET}), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
