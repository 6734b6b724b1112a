"""Has the classes of 'aws cloudtrail validate-logs' validate a folder as if it were a bucket.

usage: validate.py FOLDER KEYS BUCKET ACCOUNT REGION TRAIL START END
It prints as JSON what they found. Signatures stand in files beside the digest files.
"""
import io
import json
import os
import sys
from datetime import datetime

from awscli.customizations.cloudtrail import validation as v
from botocore.exceptions import ClientError

folder, keys, bucket, account, region, trail, start, end = sys.argv[1:]


class Paginator:
    def paginate(self, **_):
        names = []
        for at, _, files in os.walk(folder):
            names += [os.path.relpath(os.path.join(at, f), folder) for f in files if not f.endswith(".signature")]

        class Pages:
            def search(self, _):
                return iter(sorted(names))

            def __iter__(self):
                return iter([{"Contents": [{"Key": n} for n in sorted(names)]}])

        return Pages()


class S3:
    def get_paginator(self, _):
        return Paginator()

    def get_object(self, Bucket, Key):
        path = os.path.join(folder, Key)
        if Bucket != bucket or not os.path.exists(path):
            raise ClientError({"Error": {"Code": "NoSuchKey", "Message": "not there"}}, "GetObject")
        metadata = {}
        if os.path.exists(path + ".signature"):
            metadata = {"signature": open(path + ".signature").read(), "signature-algorithm": "SHA256withRSA"}
        return {"Body": io.BytesIO(open(path, "rb").read()), "Metadata": metadata}


class Provider:
    def get_client(self, _):
        return S3()


class Trail:
    def list_public_keys(self, **_):
        return json.load(open(keys))


found = []
note = lambda kind: lambda **given: found.append({"kind": kind, "message": str(given.get("message"))})  # noqa: E731
logs = v.CloudTrailValidateLogs.__new__(v.CloudTrailValidateLogs)
logs.s3_client_provider, logs._valid_logs, logs._invalid_logs = Provider(), 0, 0
logs._write_status = lambda message, is_error=False: found.append({"kind": "log", "message": message}) if is_error else None

traverser = v.DigestTraverser(
    digest_provider=v.DigestProvider(Provider(), account, trail, region),
    starting_bucket=bucket, starting_prefix="", public_key_provider=v.PublicKeyProvider(Trail()),
    on_invalid=note("invalid"), on_gap=note("gap"), on_missing=note("missing"),
)
digests = 0
for digest in traverser.traverse_digests(datetime.fromisoformat(start), datetime.fromisoformat(end)):
    digests += 1
    for log in digest["logFiles"]:
        logs._download_log(log)
print(json.dumps({"digests": digests, "logs": logs._valid_logs, "found": found}))
